"""Lists the tools of an HTTP+SSE server, one a line, then calls one and prints the text of its answer.

    call.py URL TOOL ARGUMENTS-AS-JSON
"""

import json
import sys

import anyio
from mcp import ClientSession
from mcp.client.sse import sse_client


async def main(url, tool, arguments):
    async with sse_client(url) as streams, ClientSession(*streams) as session:
        await session.initialize()
        for offered in (await session.list_tools()).tools:
            print(offered.name)
        print((await session.call_tool(tool, json.loads(arguments))).content[0].text)


anyio.run(main, *sys.argv[1:])
