"""The three tasks: what is computed, on what, and how closely a leg has to agree with the reference."""

from dataclasses import asdict, dataclass, field

SGD = {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9}
ADAM = {"optimizer": "adam", "learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}

TF32, BF16 = 2.0**-11, 2.0**-8
"""Half a unit in the last place of 1 in the two reduced formats: 10 and 7 bits behind the point."""

GRADIENT_TOLERANCE = {"fp64": 1e-7, "fp32": 1e-3, "tf32": TF32, "bf16": BF16}
"""Relative, for the norm of each parameter's gradient at step 1."""

REDUCED = {"tf32": {0: TF32}, "bf16": {0: BF16}}
"""Bounds of logits, features and losses where products are rounded; the reference's own drift in that format raises them."""

DRIFTS = 4
"""Two sums in another order drift apart like two draws of the same size: a few times one draw is still rounding."""


@dataclass(frozen=True)
class Task:
    """One network and the job it does, exactly as published in 2018.

    Attributes:
        shape: shape of one sample. Pictures are [channels, height, width], reviews [tokens].
        train, test: how many samples the data has (0: the task has none).
        flops: floating-point operations of a forward pass over one sample, multiply and add counted apart.
        tolerance: {precision: {step: bound}} for logits, features and losses; a step without an entry of its own takes the next lower one.
    """

    name: str
    title: str
    trained: bool
    shape: tuple
    classes: int
    train: int
    test: int
    seed: int
    flops: int
    tolerance: dict
    optimizer: dict = field(default_factory=dict)

    def for_worker(self, **settings) -> dict:
        """The fields that a leg sees as `task`; settings are batch, precision, device, threads, dropout."""
        own = asdict(self)
        fields = {name: own[name] for name in ("name", "trained", "classes", "seed")}
        return {**fields, **self.optimizer, **settings}

    def bound(self, precision: str, quantity: str, step: int, drift: float = 0.0) -> float:
        """The largest difference from the golden value that is accepted.

        Float64 is decisive: 20 steps stay within 1e-9. In float32 the CNN is chaotic, and how much so depends on the
        samples: torch against itself, on one thread instead of two, differs by 6e-3 in the logits of step 20. Weights have
        to come back to the last bit.

        Args:
            drift: how far the reference itself, computed in the same precision on the same samples, is from its float64 values. A
                leg may be DRIFTS times as far, where that is more than the fixed bound.
        """
        if quantity == "weights":
            return 0.0
        if quantity.startswith("gradient"):
            fixed = GRADIENT_TOLERANCE[precision]
        else:
            bounds = {**REDUCED, **self.tolerance}[precision]
            fixed = bounds[max(start for start in bounds if start <= step)]
        return fixed if precision == "fp64" else max(fixed, DRIFTS * drift)


CNN_FLOPS = 2 * (32 * 32 * 9 * (3 * 50 + 50 * 50) + 16 * 16 * 9 * (50 * 100 + 100 * 100) + 6400 * 512 + 512 * 10)
RNN_FLOPS = 2 * (150 * 300 * (125 + 100) + 100 * 2)
RESNET50_FLOPS = 2 * 4_087_136_256
"""Multiply-adds of the convolutions at 224 x 224 (He et al. 2015, table 1, give 3.8e9 for the form with the stride in the first 1x1)."""

TASKS = {
    task.name: task
    for task in (
        Task(
            name="cnn",
            title="CNN on CIFAR-10",
            trained=True,
            shape=(3, 32, 32),
            classes=10,
            train=50_000,
            test=10_000,
            seed=2018,
            flops=CNN_FLOPS,
            optimizer=SGD,
            tolerance={"fp64": {0: 1e-9}, "fp32": {0: 1e-5, 5: 1e-3, 20: 2e-2}},
        ),
        Task(
            name="rnn",
            title="GRU on IMDB",
            trained=True,
            shape=(150,),
            classes=2,
            train=25_000,
            test=25_000,
            seed=2019,
            flops=RNN_FLOPS,
            optimizer=ADAM,
            tolerance={"fp64": {0: 1e-9}, "fp32": {0: 1e-5, 5: 5e-5}},
        ),
        Task(
            name="resnet50",
            title="ResNet-50 features",
            trained=False,
            shape=(3, 224, 224),
            classes=0,
            train=0,
            test=0,
            seed=2020,
            flops=RESNET50_FLOPS,
            tolerance={"fp64": {0: 1e-9}, "fp32": {0: 1e-4}},
        ),
    )
}
