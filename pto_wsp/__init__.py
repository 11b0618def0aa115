"""pto_wsp: a traced staging framework for workloads of tile kernels, with a C++ runtime and exact semantic time."""

from pto_wsp import ops as pto
from pto_wsp.api.jit import jit
from pto_wsp.api.pipelines import connect
from pto_wsp.api.workload import Workload, discharge, kernel, make_wir, ptoisa_kernel, workload
from pto_wsp.csp.channel import Channel, Event
from pto_wsp.csp.ends import close, consume, query, record, send, synchronize, try_send
from pto_wsp.csp.process import process, replicate
from pto_wsp.errors import (
    ArtifactError,
    BindError,
    BoundsError,
    Cancelled,
    ChannelClosed,
    ChannelError,
    CompileError,
    DeadlockError,
    ExecutionError,
    IRConversionError,
    KernelError,
    LayoutIncompatibleError,
    LimitError,
    PtoError,
    RaceError,
    ScheduleError,
    ScheduleWarning,
    TraceError,
    TypeCheckError,
    UnsupportedError,
    WindowError,
)
from pto_wsp.ir.core import DType
from pto_wsp.ir.layout import Mesh, TensorLayout, TensorReplicate, TensorShard, tensor_layout_join
from pto_wsp.ops.value import Value
from pto_wsp.runtime.program import Program
from pto_wsp.runtime.resources import Resources
from pto_wsp.runtime.schedule import RunSchedule
from pto_wsp.runtime.stats import ProgramStats
from pto_wsp.runtime.trace import ExecutionTrace, TraceEvent, TraceLevel
from pto_wsp.search.config import ScheduleConfig
from pto_wsp.search.scheduler import AutoScheduler, auto_schedule
from pto_wsp.search.space import SearchSpace
from pto_wsp.targets.base import capabilities
from pto_wsp.targets.capabilities import Capabilities
from pto_wsp.trace import ptoisa
from pto_wsp.trace.annotations import Constexpr, In, InOut, Out, Scalar, Tile
from pto_wsp.trace.axes import Dense, DenseDyn
from pto_wsp.trace.builder import Task
from pto_wsp.trace.collectives import allgather, allreduce, reduce_scatter, relayout
from pto_wsp.trace.data_axes import Ragged, Sparse
from pto_wsp.trace.functional import empty, empty_like
from pto_wsp.trace.index import Symbol
from pto_wsp.trace.loops import P
from pto_wsp.trace.scalar import (
    cast,
    item,
    maximum,
    minimum,
    reduce_all,
    reduce_any,
    reduce_max,
    reduce_min,
    reduce_sum,
    where,
)
from pto_wsp.trace.slots import (
    slot_bool,
    slot_f64,
    slot_i64,
    slot_load_bool,
    slot_load_f64,
    slot_load_i64,
    slot_load_u64,
    slot_set_bool,
    slot_set_f64,
    slot_set_i64,
    slot_set_u64,
    slot_u64,
)
from pto_wsp.trace.tensor import Tensor, TensorSpec
from pto_wsp.transforms.combine import combine, sequential
from pto_wsp.transforms.dispatch import dispatch
from pto_wsp.transforms.fuse import fuse
from pto_wsp.transforms.graph_policies import (
    Deps,
    DepsMode,
    StartPolicy,
    TaskGraphConfig,
    TaskWindow,
    TracePolicy,
    WindowMode,
)
from pto_wsp.transforms.interchange import interchange
from pto_wsp.transforms.pipeline import pipeline, pipeline_loop
from pto_wsp.transforms.policies import DispatchPolicy, Pools, ReadyPolicy, TimingPolicy, register_policy
from pto_wsp.transforms.scan import scan
from pto_wsp.transforms.split import split
from pto_wsp.transforms.streams import stream_by, streams
from pto_wsp.transforms.task_graph import task_graph
from pto_wsp.transforms.tile import tile
from pto_wsp.transforms.timing import timing
from pto_wsp.transforms.unroll import unroll
from pto_wsp.transforms.vmap import vmap
from pto_wsp.transforms.window import window

jit_kernel = kernel
Shard, Replicate = TensorShard, TensorReplicate

__all__ = [
    "ArtifactError",
    "AutoScheduler",
    "BindError",
    "BoundsError",
    "Cancelled",
    "Capabilities",
    "Channel",
    "ChannelClosed",
    "ChannelError",
    "CompileError",
    "Constexpr",
    "DType",
    "DeadlockError",
    "Dense",
    "DenseDyn",
    "Deps",
    "DepsMode",
    "DispatchPolicy",
    "Event",
    "ExecutionError",
    "ExecutionTrace",
    "IRConversionError",
    "In",
    "InOut",
    "KernelError",
    "LayoutIncompatibleError",
    "LimitError",
    "Mesh",
    "Out",
    "P",
    "Pools",
    "Program",
    "ProgramStats",
    "PtoError",
    "RaceError",
    "Ragged",
    "ReadyPolicy",
    "Replicate",
    "Resources",
    "RunSchedule",
    "Scalar",
    "ScheduleConfig",
    "ScheduleError",
    "ScheduleWarning",
    "SearchSpace",
    "Shard",
    "Sparse",
    "StartPolicy",
    "Symbol",
    "Task",
    "TaskGraphConfig",
    "TaskWindow",
    "Tensor",
    "TensorLayout",
    "TensorReplicate",
    "TensorShard",
    "TensorSpec",
    "Tile",
    "TimingPolicy",
    "TraceError",
    "TraceEvent",
    "TraceLevel",
    "TracePolicy",
    "TypeCheckError",
    "UnsupportedError",
    "Value",
    "WindowError",
    "WindowMode",
    "Workload",
    "allgather",
    "allreduce",
    "auto_schedule",
    "capabilities",
    "cast",
    "close",
    "combine",
    "connect",
    "consume",
    "discharge",
    "dispatch",
    "empty",
    "empty_like",
    "fuse",
    "interchange",
    "item",
    "jit",
    "jit_kernel",
    "kernel",
    "make_wir",
    "maximum",
    "minimum",
    "pipeline",
    "pipeline_loop",
    "process",
    "pto",
    "ptoisa",
    "ptoisa_kernel",
    "query",
    "record",
    "reduce_all",
    "reduce_any",
    "reduce_max",
    "reduce_min",
    "reduce_scatter",
    "reduce_sum",
    "register_policy",
    "relayout",
    "replicate",
    "scan",
    "send",
    "sequential",
    "slot_bool",
    "slot_f64",
    "slot_i64",
    "slot_load_bool",
    "slot_load_f64",
    "slot_load_i64",
    "slot_load_u64",
    "slot_set_bool",
    "slot_set_f64",
    "slot_set_i64",
    "slot_set_u64",
    "slot_u64",
    "split",
    "stream_by",
    "streams",
    "synchronize",
    "task_graph",
    "tensor_layout_join",
    "tile",
    "timing",
    "try_send",
    "unroll",
    "vmap",
    "where",
    "window",
    "workload",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # costs a tenth of the import time

        return version("pto_wsp")
    from pto_wsp.errors import missing_public_name

    raise missing_public_name("pto_wsp", name)
