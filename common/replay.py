"""A step that is launched at once: what it did on a GPU, recorded as one CUDA graph."""

import torch


class Replayed:
    """Calls `step(*inputs)`; where `enabled`, after a few calls, as one CUDA graph: what the step
    did is launched at once, without Python.

    The step reads and writes only its inputs and tensors that stay where they are, never asks the
    device for a value, and draws from `generator` or, as layers do, from the device's own: a replay
    goes on from where both are, and from a seed that they were given since. Its first calls
    compile, and make what lasts (the optimizer's state, workspaces); they count like any other.
    Inputs keep their shapes.
    """

    WARM_UP = 3

    def __init__(self, step, generator: torch.Generator, enabled: bool):
        self.step, self.generator, self.enabled = step, generator, enabled
        self.calls = 0
        self.inputs, self.outputs, self.replay = None, None, None

    def __call__(self, *inputs):
        """What `step(*inputs)` returns; replayed, in tensors that the next call writes over."""
        if not self.enabled:
            return self.step(*inputs)
        self.calls += 1
        if self.calls <= self.WARM_UP:
            return self.warm_up(*inputs)
        if self.replay is None:
            self.inputs = [value.clone() for value in inputs]  # the graph reads them where they lie
            self.replay = self.record()
        for kept, value in zip(self.inputs, inputs):
            kept.copy_(value, non_blocking=True)
        self.replay()
        return self.outputs

    def warm_up(self, *inputs):
        """The step on a stream of its own, as recording is: gradients remember their stream."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            outputs = self.step(*inputs)
        current.wait_stream(stream)
        return outputs

    def record(self):
        """The step's replay; recording does not run it."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        # thread_local: another thread may be reading images ahead.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.outputs = self.step(*self.inputs)
        return graph.replay
