"""A step that is launched at once: what it did on a GPU, recorded as a CUDA graph."""

import torch


class Replayed:
    """Calls `body()`; on a GPU, after a few calls, as one CUDA graph: what the calls did is launched at once, without Python.

    `body` reads and writes only tensors that stay where they are, never asks the device for a value, and draws from `generator` alone. Its first
    calls compile, and make what lasts: the optimizer's state, workspaces. They count like any other.
    """

    WARM_UP = 3

    def __init__(self, body, generator, enabled):
        self.body, self.generator, self.left = (
            body,
            generator,
            self.WARM_UP if enabled else float("inf"),
        )

    def __call__(self):
        if self.left == 0:
            self.body, self.left = self.record(), float("inf")
        if self.left <= self.WARM_UP:
            self.left -= 1
            return self.warm_up()
        self.body()

    def warm_up(self):
        """The body on a stream of its own, as recording is: gradients remember theirs."""
        stream, now = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(now)
        with torch.cuda.stream(stream):
            self.body()
        now.wait_stream(stream)

    def record(self):
        """The body's replay; recording does not run it."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with torch.cuda.graph(
            graph, capture_error_mode="thread_local"
        ):  # another thread may be reading images ahead
            self.body()
        return graph.replay
