"""What a primitive is: a forward formula, and under it one backward formula (a VJP) for each input. See `primitive`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from functools import update_wrapper
from operator import itemgetter
from typing import Any, Protocol, overload

from .. import backends
from ..errors import ArgumentError, DtypeError, GraphError, MinigradError, OutOfMemoryError, OutOfRangeError, ShapeError
from ..graph import Node, Output, grad_enabled, watcher
from ..tensor import Tensor

Rule = Callable[..., Any]


class Plan:
    """For a primitive and a choice of inputs that need a gradient: what to save, and what each rule reads of it."""

    def __init__(self, definition: Definition, wanted: Sequence[int], rules: Sequence[Rule]):
        self.definition = definition
        inputs = definition.inputs
        reads = [list(inspect.signature(rule).parameters) for rule in rules]
        sources = [*inputs, "y", *definition.static, "shapes"]
        sources += [f"{name}_{part}" for part in ("shape", "dtype") for name in inputs]
        for name in {name for read in reads for name in read} - {"g", "xp", *sources}:
            raise ArgumentError(f"{definition.name}: a rule reads {name!r}, but there is only g, xp, {sources}")
        keep = sorted({sources.index(name) for read in reads for name in read if name in sources})
        first = [i for i in keep if i <= len(inputs)]
        self.save = _picker(first)  # out of (*inputs, y)
        self.save_more = [definition.source(sources[i]) for i in keep if i > len(inputs)]
        self.reads_xp = any("xp" in read for read in reads)
        saved = [sources[i] for i in keep]
        self.saved = saved  # the names of what is saved
        self.rules = [_adapt(rule, read, saved) for rule, read in zip(rules, reads)]
        # Which saved values are arrays: (place among the saved, place among the parents or None), and where y is.
        self.saved_inputs = [
            (place, wanted.index(i) if i in wanted else None) for place, i in enumerate(keep) if i < len(inputs)
        ]
        self.saved_output = keep.index(len(inputs)) if len(inputs) in keep else None


def _picker(indices: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """A function that takes these places out of a sequence, as a tuple."""
    if len(indices) > 1:
        return itemgetter(*indices)
    return eval("lambda values: (" + "".join(f"values[{i}]," for i in indices) + ")")


def _adapt(rule: Rule, read: Sequence[str], saved: Sequence[str]) -> Rule:
    """The rule as a function of (g, saved, xp), which finds what it reads among what was saved."""
    arguments = (name if name in ("g", "xp") else f"saved[{saved.index(name)}]" for name in read)
    return eval(f"lambda g, saved, xp: rule({', '.join(arguments)})", {"rule": rule})


class Op(Node):
    """The node of a primitive's result: who made it, and what its rules will read."""

    __slots__ = ("plan", "saved")

    def __init__(self, parents: tuple[Node, ...], shape: Any, plan: Plan, saved: tuple[Any, ...]):
        self.parents, self.shape, self.plan, self.saved = parents, shape, plan, saved

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.plan.definition.name

    def pull(self, g: Any, traced: bool, wanted: Collection[Node] | None) -> Sequence[Any]:
        plan = self.plan
        saved = self._saved_tensors() if traced else self.saved
        xp = backends.namespace_of(g) if plan.reads_xp else None
        pulled = []
        for parent, rule in zip(self.parents, plan.rules):  # type: ignore[arg-type]
            if wanted is None or parent in wanted:
                gp = rule(g, saved, xp)
                if type(gp) is not type(g):
                    self._require_cotangent(gp, g)
                pulled.append(gp if gp.shape == parent.shape else unbroadcast(gp, parent.shape))
            else:
                pulled.append(None)
        return pulled

    def _require_cotangent(self, answer: Any, g: Any) -> None:
        """Raise GraphError unless a rule has answered with an array, a scalar of NumPy, or a Sum."""
        if isinstance(answer, Tensor) and not isinstance(g, Tensor):
            hint = "a Tensor for an array; a rule computes with operators and the functions of xp, not with those of mg"
        elif not hasattr(answer, "shape"):
            hint = f"{'None' if answer is None else f'a {type(answer).__name__}'} instead of a cotangent"
        else:
            return
        raise GraphError(f"a rule of {self.name} returned {hint}")

    def _saved_tensors(self) -> list[Any]:
        """What was saved, its arrays as tensors of the graph that they came from."""
        saved: list[Any] = list(self.saved)
        for place, parent in self.plan.saved_inputs:
            if backends.is_array(saved[place]):
                saved[place] = Tensor(saved[place], None if parent is None else self.parents[parent])  # type: ignore[index]
        if self.plan.saved_output is not None:
            saved[self.plan.saved_output] = Tensor(saved[self.plan.saved_output], self)
        return saved

    def release(self) -> None:
        self.parents, self.saved = None, ()


class JoinOp(Op):
    """The node of a primitive of any number of inputs: one rule answers for all of them."""

    __slots__ = ("places",)

    def __init__(self, parents: Any, shape: Any, plan: Plan, saved: tuple[Any, ...], places: list[int]):
        super().__init__(parents, shape, plan, saved)
        self.places = places  # of the parents among the inputs

    def pull(self, g: Any, traced: bool, wanted: Collection[Node] | None) -> Sequence[Any]:
        (rule,) = self.plan.rules
        pulled = rule(g, self._saved_tensors() if traced else self.saved, backends.namespace_of(g))
        return [pulled[i] for i in self.places]


class ManyOp(Op):
    """The node of a primitive of one input and several outputs, whose shapes are `shape`.

    Its cotangents come as a dict, by the index of the output; one that is missing is zero.
    """

    __slots__ = ()

    def pull(self, g: Any, traced: bool, wanted: Collection[Node] | None) -> Sequence[Any]:
        (rule,) = self.plan.rules
        some = next(iter(g.values()))
        if len(g) < len(self.shape):
            like = some.data if traced else some
            zeros = backends.namespace_of(like).zeros
            for i, shape in enumerate(self.shape):
                if i not in g:
                    nothing = zeros(shape, dtype=like.dtype)
                    g[i] = Tensor(nothing) if traced else nothing
        parts = [g[i] for i in range(len(self.shape))]
        return [rule(parts, self._saved_tensors() if traced else self.saved, backends.namespace_of(some))]


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a cotangent over the axes along which broadcasting has repeated a value of this shape."""
    lead = len(g.shape) - len(shape)
    if lead < 0 and set(shape[:-lead]) == {1}:  # more axes than the output, as the values of index_update may have
        return backends.namespace_of(g).reshape(unbroadcast(g, shape[-lead:]), shape)
    if lead < 0 or any(n != 1 and n != m for n, m in zip(shape, g.shape[lead:])):
        raise ShapeError(f"a rule answered with shape {tuple(g.shape)} for an input of shape {shape}")
    axes = (*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] != 1))
    xp = backends.namespace_of(g)
    return xp.reshape(xp.sum(g, axis=axes), shape)


class Definition:
    """What is known of a primitive before it is called, and how odd arguments are made to fit."""

    def __init__(self, formula: Callable[..., Any], floating: bool, name: str | None):
        self.formula, self.floating, self.name = formula, floating, name or formula.__name__
        parameters = list(inspect.signature(formula).parameters.values())[1:]
        self.signature = inspect.Signature(parameters)
        self.inputs = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if not self.inputs and not self.variadic:
            raise ArgumentError(f"primitive: {self.name} needs a / after its arrays, as in f(xp, x, /, *, axis)")
        self.static = {p.name: p.default for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        self.by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.rules: tuple[Rule | None, ...] | None = None  # until `vjp` is called
        self.plans: dict[int, Plan] = {}

    def with_rules(self, mask: int) -> int:
        """Of the inputs in `mask`, those that have a rule. Raises GraphError if `vjp` never said which have one."""
        if self.rules is None:
            raise GraphError(f"{self.name} has no backward formula: {self.name}.vjp(...) gives it one for each input")
        if self.variadic:
            return mask
        return mask & sum(1 << i for i, rule in enumerate(self.rules) if rule is not None)

    def plan(self, mask: int) -> Plan:
        """The plan for the inputs in `mask` (bit i for input i); the one plan of a variadic primitive."""
        if self.variadic:
            return Plan(self, (), self.rules)  # type: ignore[arg-type]  # its one rule answers for all
        wanted = [i for i in range(len(self.inputs)) if mask >> i & 1]
        return Plan(self, wanted, [self.rules[i] for i in wanted])  # type: ignore[index,misc]

    def bind(self, args: tuple[Any, ...], static: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give the static arguments that came by position their names."""
        n = len(self.inputs)
        more = args[n:]
        if len(args) < n or len(more) > len(self.by_position):
            raise DtypeError(f"{self.name}{self.signature}: got {len(args)} positional arguments")
        return args[:n], {**dict(zip(self.by_position, more)), **static}

    def reconcile(self, args: Sequence[Any]) -> list[Any]:
        """The arguments as tensors of one backend and one dtype, with Python scalars left as they are.

        An input whose rule is None (a condition, indices) keeps its dtype. Integers meeting a float, or a function
        of real numbers, become floats: of the tensors' dtype, or float32.
        """
        rules = self.rules if self.rules is not None and any(self.rules) and not self.variadic else [True] * len(args)
        joins = [rule is not None for rule in rules]
        fitted: list[Any] = []
        for a in args:
            a = backends.as_number(a)
            if backends.is_array(a):
                a = Tensor(backends.namespace_of(a).asarray(a, copy=True))  # a plain one, if it is a memmap
            elif not isinstance(a, (Tensor, float, int)):
                raise DtypeError(
                    f"{self.name}: expected tensors, arrays or numbers, got {type(a).__name__}; mg.tensor makes one"
                )
            fitted.append(a)
        if self.variadic:  # the library would join numbers in a dtype of its own
            fitted = [a if isinstance(a, Tensor) else Tensor(backends.as_array(a)) for a in fitted]
        arrays = [a.data for a in fitted if isinstance(a, Tensor)]
        xp = backends.require_same(self.name, arrays) if arrays else backends.current()
        if not any(isinstance(a, Tensor) for a, join in zip(fitted, joins) if join):
            first = joins.index(True)
            fitted[first] = Tensor(backends.as_array(fitted[first], namespace=xp))
        for i, a in enumerate(fitted):
            if not joins[i] and not isinstance(a, Tensor):
                fitted[i] = Tensor(xp.asarray(a))
        names = {backends.dtype_name(a.dtype) for a, join in zip(fitted, joins) if join and isinstance(a, Tensor)}
        floats = [name for name in backends.FLOATING if name in names]
        if floats:
            target = floats[-1]
        elif self.floating or any(type(a) is float for a in fitted):
            target = "float32"
        else:
            target = [name for name in backends.DTYPES if name in names][-1]
        if names != {target}:
            from .elementwise import astype

            fitted = [astype(a, target) if j and isinstance(a, Tensor) else a for a, j in zip(fitted, joins)]
        return fitted

    def source(self, name: str) -> Callable[[Sequence[Any], dict[str, Any]], Any]:
        """How a rule's parameter, other than g, y, xp and the inputs, is had from the inputs and static arguments."""
        if name in self.static:
            default = self.static[name]
            return lambda arrays, static: static.get(name, default)
        if name == "shapes":
            return lambda arrays, static: tuple(a.shape for a in arrays)
        of, _, part = name.rpartition("_")
        i = self.inputs.index(of)
        return lambda arrays, static: getattr(arrays[i], part, ())  # a Python number has the shape ()

    def explain(self, error: Exception, args: Sequence[Any], static: dict[str, Any]) -> MinigradError:
        """What the array library said, with the name of the operation and what it was given."""
        if isinstance(error, MinigradError):
            return error
        given = [f"{backends.dtype_name(a.dtype)}{tuple(a.shape)}" if backends.is_array(a) else repr(a) for a in args]
        given += [f"{name}={value!r}" for name, value in static.items()]
        if isinstance(error, MemoryError):
            return OutOfMemoryError(f"{self.name}({', '.join(given)})", error)
        kind = {TypeError: DtypeError, IndexError: OutOfRangeError}.get(type(error), ShapeError)
        hint = "; sizes are aligned at the last axis and must be equal or 1" if "broadcast" in str(error) else ""
        return kind(f"{self.name}({', '.join(given)}): {str(error).strip()}{hint}")


class Applied(Protocol):
    """A primitive as its users see it: a function of tensors, arrays and numbers, that takes its rules by `vjp`."""

    definition: Definition
    vjp: Callable[..., None]

    def __call__(self, *args: Any, **static: Any) -> Any: ...


@overload
def primitive(formula: Callable[..., Any], /) -> Applied: ...
@overload
def primitive(*, floating: bool = ..., name: str = ...) -> Callable[[Callable[..., Any]], Applied]: ...
def primitive(formula: Any = None, /, *, floating: bool = False, name: str | None = None) -> Any:
    """Make a forward formula `formula(xp, *arrays, /, **static)` an operation on tensors.

    As in the array API standard, the parameters before `/` are the arrays and the others are static. A rule, given by
    `.vjp` for each array in order, or None where no gradient flows, says by the names of its parameters what it reads,
    and only that is saved:

        g                the cotangent of the output (for several outputs: a list, one for each)
        y                the output
        x1, x2, ...      an input, by its name in the formula
        axis, ...        a static argument, by its name
        x1_shape         the shape of an input; x1_dtype its dtype; `shapes` the shapes of all inputs
        xp               the namespace of the cotangent, for functions that are no operators

    The same rules serve arrays, and Tensors when the backward pass is itself recorded, so `xp` has the functions of the
    standard that are no compositions of others; asked for another one, it names them. Broadcasting is undone centrally:
    a rule may answer in the shape of the output. A formula of one array that returns a list has several outputs. It
    must not write into its arguments.

    floating: a function of real numbers: integers are made floats first.
    name: what errors and pictures call it; by default the formula's name.

    >>> import minigrad as mg
    >>> @mg.primitive
    ... def multiply(xp, x1, x2, /):
    ...     return x1 * x2
    >>> multiply.vjp(lambda g, x2: g * x2, lambda g, x1: g * x1)
    >>> bool(mg.gradcheck(multiply, [[1.0, 2.0], [3.0, 4.0]], order=2))
    True
    """
    if formula is None:
        return lambda formula: _primitive(Definition(formula, floating, name))
    return _primitive(Definition(formula, floating, name))


def _primitive(definition: Definition) -> Applied:
    formula, floating = definition.formula, definition.floating
    arity, variadic, plans = len(definition.inputs), definition.variadic, definition.plans
    check_dtype = floating or arity != 1
    namespaces = backends.namespaces

    def general(*args: Any, **static: Any) -> Any:
        """Any inputs: numbers, arrays, tensors of several dtypes, static arguments."""
        if len(args) != arity and not variadic:
            args, static = definition.bind(args, static)
        watch = watcher.get()
        if watch is not None:
            args = tuple([watch.lift(a) for a in args])
        arrays, mask, kind, dtype, fits = [], 0, None, None, True
        for i, a in enumerate(args):
            if isinstance(a, Tensor):
                if a.node is not None:
                    mask |= 1 << i
                a = a.data
                if kind is None:
                    kind, dtype = type(a), a.dtype
                elif type(a) is not kind or a.dtype is not dtype:
                    fits = False
            elif type(a) is not float and type(a) is not int:
                fits = False
            arrays.append(a)
        if not fits or kind is None or (check_dtype and not mask and dtype not in namespaces[kind].floating):
            args = tuple(definition.reconcile(args))
            tensors = [a for a in args if isinstance(a, Tensor)]
            arrays = [a.data if isinstance(a, Tensor) else a for a in args]
            mask = sum(1 << i for i, a in enumerate(args) if isinstance(a, Tensor) and a.node is not None)
            kind = type(tensors[0].data)
        xp = namespaces[kind]
        try:
            y = formula(xp, *arrays, **static)
        except (TypeError, ValueError, IndexError, MemoryError) as error:
            raise definition.explain(error, arrays, static) from error

        many = type(y) is list
        if type(y) is not kind and not many and not backends.is_array(y):
            y = xp.asarray(y)  # NumPy answers with a scalar where the result is 0-d
        node: Op | None = None
        mask = definition.with_rules(mask) if mask and grad_enabled.get() else 0
        if mask:
            places = [i for i in range(len(args)) if mask >> i & 1]
            parents = tuple([args[i].node for i in places])
            key = 0 if variadic else mask
            plan = plans.get(key) or plans.setdefault(key, definition.plan(mask))
            saved = plan.save((y,) if variadic else (*arrays, y))
            if plan.save_more:
                saved += tuple([source(arrays, static) for source in plan.save_more])
            if many:
                if arity != 1:
                    raise ArgumentError(
                        f"{definition.name}: a formula of several outputs has a gradient by one array, not by {arity}"
                    )
                node = ManyOp(parents, [part.shape for part in y], plan, saved)
            elif variadic:
                node = JoinOp(parents, y.shape, plan, saved, places)
            else:
                node = Op(parents, y.shape, plan, saved)
        if watch is not None:
            watch.made(definition.name, node, arrays, y)
        if not many:
            return Tensor(y, node)
        if node is None:
            return [Tensor(part) for part in y]
        return [Tensor(part, Output(node, i, part.shape)) for i, part in enumerate(y)]

    # The common cases, spelled out: the same steps for one or two tensors that fit, in half the time. `general` makes
    # the plan, at the first call.

    def unary(x: Any, /) -> Any:
        if isinstance(x, Tensor):
            a, parent, plan = x.data, x.node, plans.get(1)
            if parent is not None and plan is not None and grad_enabled.get() and watcher.get() is None:
                try:
                    y = formula(namespaces[type(a)], a)
                except (TypeError, ValueError, MemoryError) as error:
                    raise definition.explain(error, (a,), {}) from error
                if type(y) is type(a):
                    return Tensor(y, Op((parent,), y.shape, plan, plan.save((a, y))))
        return general(x)

    def binary(x1: Any, x2: Any, /) -> Any:
        if isinstance(x1, Tensor) and isinstance(x2, Tensor):
            a, b, parent1, parent2 = x1.data, x2.data, x1.node, x2.node
            if type(a) is type(b) and a.dtype is b.dtype and grad_enabled.get() and watcher.get() is None:
                plan = plans.get((parent1 is not None) + 2 * (parent2 is not None))
                if plan is not None:
                    try:
                        y = formula(namespaces[type(a)], a, b)
                    except (TypeError, ValueError, MemoryError) as error:
                        raise definition.explain(error, (a, b), {}) from error
                    if type(y) is type(a):
                        parents: Any = (parent1, parent2)
                        if parent1 is None or parent2 is None:
                            parents = (parent2,) if parent1 is None else (parent1,)
                        return Tensor(y, Op(parents, y.shape, plan, plan.save((a, b, y))))
        return general(x1, x2)

    apply: Any = general if definition.static or variadic else {1: unary, 2: binary}.get(arity, general)

    def vjp(*rules: Rule | None) -> None:
        """Give the rule of each input, in order; None for one without a gradient, such as indices."""
        if len(rules) != (1 if variadic else arity):
            raise ArgumentError(f"{definition.name}.vjp: got {len(rules)} rules for {arity} inputs")
        if not all(rule is None or callable(rule) for rule in rules):
            raise ArgumentError(f"{definition.name}.vjp: a rule is a function or None, got {rules}")
        definition.rules = rules
        plans.clear()

    update_wrapper(apply, formula)
    del apply.__wrapped__
    apply.__signature__ = definition.signature
    apply.definition, apply.vjp = definition, vjp
    return apply
