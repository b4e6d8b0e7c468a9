"""The HTTP server: encodes an image once, then answers prompts on it; and the page that uses it.

Needs the `server` extra. `app.create_app` builds the ASGI application, `samtrt serve` runs it.
"""

from samtrt.errors import MissingExtraError

try:
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise MissingExtraError("The server", "server", error.name or "fastapi") from None
