"""The HTTP server: encodes an image once, then answers prompts on it; and the page that uses it.

Needs the `server` extra. `app.create_app` builds the ASGI application, `samtrt serve` runs it.
"""

from importlib.util import find_spec

from samtrt.errors import MissingExtraError

# Looked for, not imported: the processes of `readers` need none of them.
for _package in ("fastapi", "prometheus_client", "python_multipart", "uvicorn"):
    if find_spec(_package) is None:
        raise MissingExtraError("The server", "server", _package)
