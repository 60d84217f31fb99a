"""How the losses are made fast, on a CPU, on a GPU and over several processes. Private: users call ``limbeck.losses``.

Imports torch (and Triton where it is installed) and nothing of Limbeck above it: a divergence comes down as an object.

A row kernel (``call``) computes the loss and the gradient of rows of logits: ``cpu``, ``triton`` on a GPU, ``sparse`` for a
teacher that is known by a few classes, ``sharded`` over several processes. ``autograd`` and ``linear`` make a node of the graph
of any of them; ``cross_entropy`` is the hard term of those that are written in torch.
"""
