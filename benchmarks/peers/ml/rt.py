"""MLServer by its own tutorial, with batching."""

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.codecs import NumpyCodec
from model import load as load_model


class RT(MLModel):
    async def load(self):
        self.m = load_model()
        return True

    async def predict(self, p: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(p.inputs[0])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", self.m.predict(x))])
