"""Small networks whose programs the account's tests trace, lower and compile."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vlfau_jax.account.flops import Task
from vlfau_jax.data.read.batch import spec
from vlfau_jax.losses.joint import ObjectiveOptions
from vlfau_jax.model.options import ModelOptions
from vlfau_jax.model.vlfau import VLFAU
from vlfau_jax.sharding.mesh import MeshOptions, make_mesh
from vlfau_jax.train.optimizer import OptimizerOptions, make_optimizer, make_schedule
from vlfau_jax.train.state import abstract_params, abstract_state
from vlfau_jax.train.step import abstract_batch, make_train_step

# No two widths are the same: products that are mistaken for each other differ.
SIZES = {
    "backbone_width": 8,
    "depths": (1, 1, 2, 1),
    "heads": (1, 2, 2, 4),
    "window": 4,
    "patch": 4,
    "width": 16,
    "reduction": 4,
    "word_embedding": 12,
    "hidden": 20,
    "attention": 24,
}
TASK = Task(
    image_size=32,
    au_count=3,
    vocabulary=11,
    local_tokens=6,
    global_tokens=9,
    batch=2,
    own_words=4,
)


def network(options, task):
    return VLFAU(options, task.au_count, task.vocabulary, task.own_words)


def batch_spec(task):
    return spec(
        batch_size=task.batch,
        image_size=task.image_size,
        units=task.au_count,
        max_local_tokens=task.local_tokens,
        max_global_tokens=task.global_tokens,
    )


def forward(options, task):
    """A scalar of all that the network returns, and the shapes of its arguments."""
    model, sizes = network(options, task), batch_spec(task)
    params = nn.meta.unbox(abstract_params(model, sizes))
    image = jax.ShapeDtypeStruct(sizes["image"][0], jnp.float32)
    tokens = [
        jax.ShapeDtypeStruct(sizes[f"{name}_tokens"][0], jnp.int32) for name in ("local", "global")
    ]

    def function(params, image, *tokens):
        outputs = model.apply({"params": params}, image, *tokens)
        logits = (outputs.au_logits, outputs.local_logits, outputs.global_logits)
        return sum(x.astype(jnp.float32).sum() for x in logits if x is not None)

    return function, (params, image, *tokens)


def train_step(options, task, objective=None, frozen=(), parts=1, devices=None, mesh=(1, 1, 1)):
    """The real training step, jitted, and the shapes of its arguments."""
    objective = ObjectiveOptions() if objective is None else objective
    mesh, sizes = make_mesh(MeshOptions(*mesh), devices), batch_spec(task)
    recipe = OptimizerOptions()
    model, schedule = network(options, task), make_schedule(recipe, 1000)
    optimizer = make_optimizer(recipe, schedule)
    abstract = abstract_state(model, optimizer, sizes, mesh, frozen=frozen)
    step = make_train_step(
        model,
        optimizer,
        schedule,
        mesh,
        abstract,
        objective=objective,
        class_weights=np.ones(task.au_count, np.float32),
        seed=0,
        frozen=frozen,
        parts=parts,
    )
    return step, (abstract, abstract_batch(sizes, mesh))


def options(**changed):
    return ModelOptions(**{**SIZES, **changed})
