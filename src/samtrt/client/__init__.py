"""Use a server from Python as if the model were here.

    from samtrt import Client

    with Client("http://127.0.0.1:8000") as client, client.upload("photo.jpg") as image:
        masks, scores, logits = image.predict([[320, 240]], [1])

`RemoteImage.predict` takes what `Predictor.predict` takes and returns what it returns; the work is
done by `samtrt serve`. Needs the extra `client`.
"""

from samtrt.client.answers import cut_maps, expecting, image_bytes
from samtrt.client.connection import Client
from samtrt.client.remote_image import RemoteImage
from samtrt.client.remote_video import RemoteVideo

__all__ = ["Client", "RemoteImage", "RemoteVideo", "cut_maps", "expecting", "image_bytes"]
