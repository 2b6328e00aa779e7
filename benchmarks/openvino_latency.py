"""Times a model file in OpenVINO, in a process without TensorFlow, beside which its CPU plugin has crashed.

    python benchmarks/openvino_latency.py MODEL.xml INPUTS.npz REPEATS

INPUTS.npz holds the inputs by name and the wanted probabilities as `wanted`. Prints, as JSON, the median latency in
seconds and by how much the probabilities are apart.
"""

import json
import sys
import time

import numpy as np
import openvino


def measure(model_path, inputs_path, repeats):
    arrays = dict(np.load(inputs_path))
    wanted = arrays.pop("wanted")
    model = openvino.Core().read_model(model_path)
    model.reshape({name: list(value.shape) for name, value in arrays.items()})
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    apart = float(np.abs(compiled(arrays)["probability"] - wanted).max())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        compiled(arrays)
        times.append(time.perf_counter() - start)
    return {"seconds": float(np.median(times)), "apart": apart}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
