"""The page of `samtrt serve`, built by `make web`: `pip install 'samtrt[page]'`.

It holds onnxruntime-web, which decodes in the browser; `static/NOTICE.txt` has its licence.
"""

from pathlib import Path

STATIC = Path(__file__).parent / "static"
"""Every file that the server sends. Names that end in .gz are sent as what they hold."""
