"""MLflow's scoring server, with requests bounded and checked, and answers that say what is wrong and no more."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, ErrorCode

from emofuse.corpora.base import shown
from emofuse.inference.requests import MAX_BODY

if TYPE_CHECKING:
    from mlflow.models import Model
    from mlflow.types import Schema
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["bound_bodies", "explain_errors", "refuse_unknown"]

_MAX_MESSAGE = 2_000
"""Characters of an answer that says what is wrong."""

_logger = logging.getLogger(__name__)


def bound_bodies(server: Any) -> None:
    """Have MLflow's server read no more of a body than may be in one."""
    catch = server._async_catch_mlflow_exception

    def bounded(answer: Callable[..., Awaitable["Response"]]) -> Any:
        @wraps(answer)
        async def read_first(request: "Request") -> "Response":
            return await _read_body(request) or await answer(request)

        return catch(read_first)

    server._async_catch_mlflow_exception = bounded


async def _read_body(request: "Request") -> "Response | None":
    """Read a request's body into it; returns an answer where it is too large."""
    from starlette.responses import PlainTextResponse

    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= MAX_BODY:
            parts.append(part)
        else:
            parts.clear()  # The rest is read and thrown away, or the client would not hear the answer.
    request._body = b"".join(parts)  # where `request.body()` looks first
    if size > MAX_BODY:
        return PlainTextResponse(f"the body has {size:,} bytes; a request may have {MAX_BODY:,}", status_code=413)
    return None


def refuse_unknown(server: Any) -> None:
    """Have MLflow's server refuse parameters, columns and fields that the model does not know, and would not see."""
    read_json, read_csv = server._parse_json_data, server.parse_csv_input

    def parse_json(data: bytes, metadata: "Model", schema: "Schema") -> Any:
        body = server._decode_json_input(data)
        _check_names("field", body, [*sorted(server.SUPPORTED_FORMATS), server.SERVING_PARAMS_KEY])
        parsed = read_json(body, metadata, schema)
        _check_names("column", _columns(parsed.data), schema.input_names())
        known = metadata.get_params_schema()
        if isinstance(parsed.params, dict) and known:
            _check_names("parameter", parsed.params, [each.name for each in known.params])
        return parsed

    def parse_csv(csv_input: Any, schema: "Schema") -> Any:
        table = read_csv(csv_input, schema)
        _check_names("column", _columns(table), schema.input_names())
        return table

    server._parse_json_data, server.parse_csv_input = parse_json, parse_csv


def _columns(data: Any) -> Iterable[Any]:
    """Names of columns in any of the forms that MLflow brings a body to."""
    if isinstance(data, list):
        return (name for row in data if isinstance(row, dict) for name in row)
    return data if isinstance(data, dict | pd.DataFrame) else ()


def _check_names(kind: str, names: Iterable[Any], known: Sequence[Any]) -> None:
    for name in names:
        if name not in known:
            raise _refused(f"unknown {kind} {shown(name)}; expected some of {', '.join(map(str, known))}")


def explain_errors(server: Any) -> None:
    """Have MLflow's server answer with a reason where it takes for granted what may not be, or tells of itself.

    That is a header Content-Type, and a body that is nested within reason and has numbers that Python reads; it answers
    500 otherwise. Parquet, which may unpack to any size, is refused. What it says of errors has no paths and no code.
    """
    answer = server.invocations

    def invocations(body: bytes, kind: str | None, *rest: Any) -> Any:
        kind = kind or "none"
        if kind.partition(";")[0].strip() == server.CONTENT_TYPE_PARQUET:
            reason = f"Got '{kind}'; expected application/json or text/csv"
            return server.InvocationsResponse(response=reason, status=415, mimetype="text/plain")
        try:
            return answer(body, kind, *rest)
        except RecursionError as error:
            raise _refused("the body is nested too deeply") from error
        except MlflowException as error:
            if "stack_trace" in error.json_kwargs:
                _logger.error("%s\n%s", error.message, error.json_kwargs["stack_trace"])
            # MLflow puts all of the input before the reason.
            raise _refused(str(error.message).rpartition("\nError: ")[2], error) from None
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise _refused(f"the body cannot be read: {_short(error)}") from error

    server.invocations = invocations


def _refused(message: str, error: MlflowException | None = None) -> MlflowException:
    code = INVALID_PARAMETER_VALUE if error is None else ErrorCode.Value(error.error_code)
    return MlflowException(message[:_MAX_MESSAGE], error_code=code)


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
