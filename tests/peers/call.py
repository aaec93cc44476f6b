"""Lists the tools of a server, one a line, then calls one and prints the text of its answer.

    call.py sse|http URL TOOL ARGUMENTS-AS-JSON
"""

import json
import sys

import anyio

from sdk import connected


async def nothing(_):
    """Keeps no message."""
    return False


async def main(kind, url, tool, arguments):
    async with connected(kind, [url], nothing, {}) as (session, _, _):
        for offered in (await session.list_tools()).tools:
            print(offered.name)
        print((await session.call_tool(tool, json.loads(arguments))).content[0].text)


anyio.run(main, *sys.argv[1:])
