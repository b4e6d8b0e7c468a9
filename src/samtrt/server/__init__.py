"""The HTTP server: encodes an image once, then answers prompts on it; and the page that uses it.

Needs the `server` extra. `app.create_app` builds the ASGI application, `samtrt serve` runs it.
"""
