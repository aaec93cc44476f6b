"""An MCP server on version 1 of the Python SDK with everything that the server scenarios of the conformance suite ask
for and a legacy server can have.

    conformance_server.py           on stdio
    conformance_server.py --http    on the SDK's own Streamable HTTP server, at any free port
"""

import anyio
from mcp import McpError, types
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.shared.message import ServerMessageMetadata
from pydantic import AnyUrl

from conformance_tools import PROMPTS, RESOURCES, TOOLS, prompt, resource
from hosting import host
from tap import tap, wrap

RESOURCE_NOT_FOUND = -32002


class Call:
    """One request while it is handled: see conformance_tools.py."""

    modern = False

    def __init__(self, context, connection):
        self.context = context
        self.connection = connection
        self.close_stream = context.close_sse_stream
        self.declared = context.session.client_params.capabilities.model_dump(exclude_none=True)

    async def ask(self, **questions):
        answers = {}

        async def one(name, question):
            answers[name] = await self.connection.ask(name, question, self.context.request_id)

        async with anyio.create_task_group() as tasks:
            for name, question in questions.items():
                tasks.start_soon(one, name, question)
        return [answers[name] for name in questions]

    async def log(self, words):
        await self.context.session.send_log_message("info", words, related_request_id=self.context.request_id)

    async def progress(self, done):
        token = self.context.meta and self.context.meta.progressToken
        if token is not None:
            request = str(self.context.request_id)
            await self.context.session.send_progress_notification(token, done, 100, related_request_id=request)

    async def changed(self, kind):
        if kind == "tools":
            await self.context.session.send_tool_list_changed()
        else:
            await self.context.session.send_prompt_list_changed()


class Connection:
    """Asks the client under ids that are names: a modern client gets a question with a name, and a bridge has no other
    from a legacy server than the id."""

    def __init__(self, write):
        self.write = write
        self.waiting = {}

    async def ask(self, name, question, related):
        while name in self.waiting:
            name += "-again"
        self.waiting[name], answered = anyio.create_memory_object_stream(1)
        message = wrap({"id": name, **question})
        message.metadata = ServerMessageMetadata(related_request_id=related)
        try:
            await self.write.send(message)
            answer = await answered.receive()
        finally:
            del self.waiting[name]
        if "error" in answer:
            raise McpError(types.ErrorData.model_validate(answer["error"]))
        return answer["result"]

    async def take(self, message):
        """Takes the answers to our questions."""
        if "method" in message or message.get("id") not in self.waiting:
            return False
        self.waiting[message["id"]].send_nowait(message)
        return True


class ConformanceServer(Server):
    """Says that it takes subscriptions, which the SDK's low-level server never does."""

    def get_capabilities(self, *arguments):
        capabilities = super().get_capabilities(*arguments)
        capabilities.resources.subscribe = True
        return capabilities


def make_server(connection):
    """A server with state of its own."""
    server = ConformanceServer("conformance-server", version="1.0.0")
    offer_tools(server, connection)
    offer_resources(server)
    offer_prompts(server, connection)
    return server


def offer_tools(server, connection):
    @server.list_tools()
    async def list_tools():
        return [
            types.Tool(name=name, description=f"The tool {name}.", inputSchema=schema)
            for name, (schema, _) in TOOLS.items()
        ]

    @server.call_tool(validate_input=False)
    async def call_tool(name, arguments):
        _, function = TOOLS[name]
        return await function(Call(server.request_context, connection), **arguments)

    @server.set_logging_level()
    async def set_level(level):
        pass


def offer_resources(server):
    @server.list_resources()
    async def list_resources():
        return [
            types.Resource(uri=AnyUrl(f"test://{name}"), name=name, description=name, mimeType=kind)
            for name, kind in RESOURCES.items()
        ]

    @server.list_resource_templates()
    async def list_resource_templates():
        return [types.ResourceTemplate(uriTemplate="test://template/{id}/data", name="template", description="data")]

    @server.read_resource()
    async def read_resource(uri):
        found = resource(str(uri))
        if found is None:
            data = types.ErrorData(code=RESOURCE_NOT_FOUND, message="no such resource", data={"uri": str(uri)})
            raise McpError(data)
        return [ReadResourceContents(*found)]

    @server.subscribe_resource()
    async def subscribe(uri):
        pass

    @server.unsubscribe_resource()
    async def unsubscribe(uri):
        pass


def offer_prompts(server, connection):
    @server.list_prompts()
    async def list_prompts():
        return [
            types.Prompt(
                name=name,
                description=f"The prompt {name}.",
                arguments=[types.PromptArgument(name=argument, required=True) for argument in arguments],
            )
            for name, arguments in PROMPTS.items()
        ]

    @server.get_prompt()
    async def get_prompt(name, arguments):
        contents = await prompt(Call(server.request_context, connection), name, arguments or {})
        return types.GetPromptResult(
            messages=[types.PromptMessage(role="user", content=content) for content in contents]
        )

    @server.completion()
    async def complete(ref, argument, context):
        return types.Completion(values=[argument.value + "a"], total=1, hasMore=False)


async def serve(read, write, stateless):
    connection = Connection(write)
    server = make_server(connection)
    changes = NotificationOptions(prompts_changed=True, tools_changed=True)
    async with tap(read, connection.take) as read:
        await server.run(read, write, server.create_initialization_options(changes), stateless=stateless)


if __name__ == "__main__":
    host(serve)
