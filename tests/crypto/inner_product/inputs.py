"""What heads are evaluated on, extremes first."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst


@st.composite
def inputs(draw, packing, shape):
    """Draw features of a shape that ends in num_features, weights and bias of one to three classes, as large as a packing takes."""
    half, largest = 1 << (packing.weight_bits - 1), (1 << packing.feature_bits) - 1
    values = st.sampled_from([0, largest]) | st.integers(0, largest)
    weight = st.sampled_from([-half, half - 1, 0]) | st.integers(-half, half - 1)
    features = draw(npst.arrays(np.uint8, shape, elements=values))
    weights = draw(npst.arrays(np.int8, (draw(st.integers(1, 3)), packing.num_features), elements=weight))
    bias = st.sampled_from([-packing.largest, packing.largest]) | st.integers(-packing.largest, packing.largest)
    return features, weights, draw(npst.arrays(np.int64, len(weights), elements=bias))
