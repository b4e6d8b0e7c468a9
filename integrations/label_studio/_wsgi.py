"""Serves the model: `label-studio-ml start` runs this file, and WSGI servers take `app` of it."""

from __future__ import annotations

import argparse
import sys

from label_studio_ml.api import init_app

from model import Segmentation, segmenter
from samtrt.errors import SamtrtError

try:
    segmenter()
except SamtrtError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

app = init_app(model_class=Segmentation)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("-p", "--port", type=int, default=9090)
    arguments = parser.parse_args()
    app.run(host=arguments.host, port=arguments.port)
