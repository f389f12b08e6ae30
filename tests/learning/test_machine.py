"""What a training process sets up in torch: threads, and who multiplies its matrices."""

from __future__ import annotations

import pytest
import torch

from rlhf.learning.run import machine

BIG = machine.TOY_BYTES


@pytest.fixture(autouse=True)
def as_it_was():
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize(
    ("weights", "asked", "threads"),
    [(BIG - 1, 0, 1), (BIG - 1, 2, 2), (BIG, 1, 1), (BIG, 0, 2), (BIG, 3, 3)],
)
def test_a_toy_gets_one_thread_and_who_asks_gets_what_was_asked(weights, asked, threads):
    torch.set_num_threads(2)
    machine.fit(weights, asked)
    assert torch.get_num_threads() == threads


def test_onednn_may_be_asked_for_anything_but_a_toy(monkeypatch):
    machine.fit(BIG - 1)
    assert torch.get_float32_matmul_precision() == "highest"
    with monkeypatch.context() as patch:  # a GPU multiplies by itself, and by the same setting
        patch.setattr(torch.cuda, "is_available", lambda: True)
        machine.fit(BIG)
    assert torch.get_float32_matmul_precision() == "highest"
    machine.fit(BIG)
    x = torch.randn(96, 512, generator=torch.Generator().manual_seed(1))
    assert torch.equal(x @ torch.eye(512), x)  # whoever multiplies here, nothing is rounded


@pytest.mark.parametrize("rows", [1, 16, 512])
def test_where_onednn_rounds_products_stay_as_they_were(rows, monkeypatch):
    real = torch.Tensor.__matmul__

    def rounding(x, other):
        said = real(x, other)
        rounds = torch.get_float32_matmul_precision() == "medium" and len(x) == rows
        return said.bfloat16().float() if rounds else said

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    machine.multiply_by_onednn()
    assert torch.get_float32_matmul_precision() == "highest"


def test_products_and_their_gradients_agree_with_double_precision():
    machine.multiply_by_onednn()
    generator = torch.Generator().manual_seed(2)
    x, weight, gradient = (
        torch.randn(*shape, generator=generator) for shape in ((40, 96), (130, 96), (40, 130))
    )
    x, weight = x.requires_grad_(), weight.requires_grad_()
    y = torch.nn.functional.linear(x, weight)
    y.backward(gradient)
    with torch.no_grad():
        for found, expected in (
            (y, x.double() @ weight.double().mT),
            (x.grad, gradient.double() @ weight.double()),
            (weight.grad, gradient.double().mT @ x.double()),
        ):
            torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)
