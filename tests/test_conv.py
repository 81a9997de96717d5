"""The small convolutional encoder."""

import torch
from torch.nn.functional import avg_pool2d

from agmbench.encoders.conv import Conv


def test_a_pooled_input_is_read_as_its_means() -> None:
    torch.manual_seed(0)
    pooled, plain = Conv((1, 28, 30), width=4, pool=4).eval(), Conv((1, 7, 7), width=4).eval()
    plain.load_state_dict(
        {f"net.{int(key.split('.')[1]) - 1}.{key.split('.', 2)[2]}": x for key, x in pooled.state_dict().items()}
    )
    x = torch.randn(3, 1, 28, 30)
    assert torch.equal(pooled(x), plain(avg_pool2d(x, 4)))
