"""A storage's errors in words for the user: one line each, with the remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from svgan.errors import UserError, one_line

REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AccessDenied", "403")
ELSEWHERE = (
    *("PermanentRedirect", "TemporaryRedirect", "301", "307", "AuthorizationHeaderMalformed"),
    *("IllegalLocationConstraintException", "InvalidLocationConstraint"),
)
UNREACHED = ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ReadTimeoutError")
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError")

ERRORS: tuple[type[Exception], ...] = (OSError, ValueError)
try:
    from botocore.exceptions import BotoCoreError, ClientError

    ERRORS += (BotoCoreError, ClientError)
except ImportError:  # pragma: no cover
    pass


@contextmanager
def storage_errors(uri: str, verb: str) -> Iterator[None]:
    """Turn the errors of any file system into a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, (*ERRORS, ImportError)):
            raise
        why, remedy = explained(uri, error)
        raise UserError(f"{uri}: cannot {verb} ({why}); {remedy}") from error


def explained(uri: str, error: BaseException) -> tuple[str, str]:
    """Why a storage cannot be used, and the remedy."""
    said = code(error)
    kinds = {type(e).__name__ for e in _chain(error)}
    bucket = urlsplit(uri).netloc
    if said == "NoSuchBucket":
        return f"there is no bucket {bucket}", "make it, or mend the URL or AWS_ENDPOINT_URL"
    if said in REFUSED:
        return (
            f"the server refuses these credentials: {said}",
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the rights of the node's role",
        )
    if said in ELSEWHERE:
        region = _region(error)
        set_it = f"set AWS_DEFAULT_REGION={region}" if region else "set AWS_DEFAULT_REGION to the bucket's region"
        where = f"is in region {region}" if region else "is in another region"
        used = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")
        return f"bucket {bucket} {where}{f', not {used}' if used else ''}", set_it
    if kinds & set(NO_CREDENTIALS):
        return "there are no credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the node a role"
    if kinds & set(UNREACHED):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
        return f"no S3 server answers at {endpoint}", "check AWS_ENDPOINT_URL and the network"
    remedy = "check the URL, the credentials and AWS_ENDPOINT_URL" if "://" in uri else "check the path"
    return f"{type(error).__name__}: {one_line(error)}", remedy


def code(error: BaseException) -> str:
    """The error code that an S3 server returned, '' if none."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def _region(error: BaseException) -> str:
    response = _response(error)
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region", ""))


def _response(error: BaseException) -> dict[str, Any]:
    """The server's answer; s3fs keeps it in the cause."""
    answers = (getattr(inner, "response", None) for inner in _chain(error))
    return next((answer for answer in answers if isinstance(answer, dict)), {})


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
