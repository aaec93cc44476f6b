"""An MCP server on version 2 of the Python SDK with everything that the server scenarios of the conformance suite ask
for. It serves modern clients only.

    modern_conformance_server.py           on stdio
    modern_conformance_server.py --http    on the SDK's own Streamable HTTP server, at any free port
"""

import base64
import hashlib
import hmac
import json
import secrets
import sys

import anyio
from mcp import MCPError, types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.subscriptions import PromptsListChanged, ToolsListChanged

import refusing
from conformance_tools import PROMPTS, RESOURCES, TOOLS, prompt, resource

KEY = secrets.token_bytes(32)
BUS = InMemorySubscriptionBus()


class InputRequired(Exception):
    """Leaves a handler in the modern way of asking: its result is the questions."""

    def __init__(self, questions, known):
        super().__init__()
        self.result = types.InputRequiredResult(inputRequests=questions, requestState=sealed(known))


def sealed(known):
    """The answers of earlier rounds as a state that nobody else can make."""
    text = json.dumps(known)
    return f"{hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()} {text}"


def opened(state):
    """The answers in a state; one that is not ours is an error."""
    if state is None:
        return {}
    seal, _, text = state.partition(" ")
    if not hmac.compare_digest(seal, hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()):
        raise MCPError(types.INVALID_PARAMS, "this is no state of ours")
    return json.loads(text)


class Call:
    """One request while it is handled: see conformance_tools.py."""

    modern = True
    close_stream = None
    error = MCPError

    def __init__(self, context, params):
        answers = {name: wire(answer) for name, answer in (params.input_responses or {}).items()}
        self.known = opened(params.request_state) | answers
        self.session = context.session
        self.declared = wire(context.session.client_capabilities)

    async def ask(self, **questions):
        if not questions.keys() <= self.known.keys():
            missing = {name: question for name, question in questions.items() if name not in self.known}
            raise InputRequired(missing, self.known)
        return [self.known[name] for name in questions]

    async def log(self, words):
        await self.session.send_log_message("info", words)

    async def progress(self, done):
        await self.session.report_progress(done, 100)

    async def changed(self, kind):
        await BUS.publish(ToolsListChanged() if kind == "tools" else PromptsListChanged())


def wire(model):
    """A model of the SDK with the names of the protocol."""
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


async def list_tools(context, params):
    return types.ListToolsResult(
        tools=[
            types.Tool(name=name, description=f"The tool {name}.", inputSchema=schema)
            for name, (schema, _) in TOOLS.items()
        ]
    )


async def call_tool(context, params):
    if params.name not in TOOLS:
        raise MCPError(types.INVALID_PARAMS, f"no tool {params.name}")
    _, function = TOOLS[params.name]
    try:
        return types.CallToolResult(content=await function(Call(context, params), **(params.arguments or {})))
    except InputRequired as questions:
        return questions.result
    except ValueError as error:
        return types.CallToolResult(content=[types.TextContent(type="text", text=str(error))], isError=True)


async def list_resources(context, params):
    return types.ListResourcesResult(
        resources=[
            types.Resource(uri=f"test://{name}", name=name, description=name, mimeType=kind)
            for name, kind in RESOURCES.items()
        ]
    )


async def list_resource_templates(context, params):
    template = types.ResourceTemplate(uriTemplate="test://template/{id}/data", name="template", description="data")
    return types.ListResourceTemplatesResult(resourceTemplates=[template])


async def read_resource(context, params):
    found = resource(params.uri)
    if found is None:
        raise MCPError(types.INVALID_PARAMS, "no such resource", {"uri": params.uri})
    content, kind = found
    if isinstance(content, str):
        contents = types.TextResourceContents(uri=params.uri, mimeType=kind, text=content)
    else:
        blob = base64.b64encode(content).decode()
        contents = types.BlobResourceContents(uri=params.uri, mimeType=kind, blob=blob)
    return types.ReadResourceResult(contents=[contents])


async def list_prompts(context, params):
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=name,
                description=f"The prompt {name}.",
                arguments=[types.PromptArgument(name=argument, required=True) for argument in arguments],
            )
            for name, arguments in PROMPTS.items()
        ]
    )


async def get_prompt(context, params):
    try:
        contents = await prompt(Call(context, params), params.name, params.arguments or {})
    except InputRequired as questions:
        return questions.result
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content) for content in contents])


async def complete(context, params):
    completion = types.Completion(values=[params.argument.value + "a"], total=1, hasMore=False)
    return types.CompleteResult(completion=completion)


class ConformanceServer(Server):
    """Says that it logs, which the SDK's low-level server does only with a handler of the legacy era."""

    def get_capabilities(self, *arguments, **options):
        capabilities = super().get_capabilities(*arguments, **options)
        capabilities.logging = types.LoggingCapability()
        return capabilities


def make_server():
    return ConformanceServer(
        "conformance-server",
        version="1.0.0",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_resource_templates,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_subscriptions_listen=ListenHandler(BUS),
    )


async def on_stdio(server):
    async with stdio_server() as (read, write), refusing.legacy(read, write, True) as read:
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    if "--http" in sys.argv:
        refusing.listen(make_server(), True)
    else:
        anyio.run(on_stdio, make_server())
