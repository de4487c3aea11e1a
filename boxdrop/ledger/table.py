"""The DynamoDB table: its definition, rows as items, conditional writes, reads of the index.

It does not know what rows mean: a row is a frozen dataclass with a `row_key` and an `index_key`.

It is long because rows, conditions and pages of the index are all written in DynamoDB's own expressions,
which appear in no other module.
"""

import heapq
import random
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, Final, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from boxdrop.domain.errors import BoxdropError
from boxdrop.domain.times import read_time, time_text
from boxdrop.ledger.states import Key, Result

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    raise BoxdropError("the ledger needs boto3: pip install 'boxdrop[s3]'") from None

_Item = dict[str, dict[str, Any]]

_BATCH = 100  # keys in one BatchGetItem, AWS's limit
_PAGE = 500  # index entries (about 250 bytes each) in one Query; AWS stops a page at 1 MB
_TRIES = 50  # lost races on one row, after which something must be wrong
_THROTTLED = "DynamoDB still throttles after ten tries; try again in a minute, with less at once"
_LAST = "~"  # sorts after every character of a sort key


class LedgerError(BoxdropError):
    """The ledger cannot be read or written; the message says what to do."""


class Row(Protocol):
    """What the table stores."""

    @property
    def revision(self) -> int: ...

    @property
    def row_key(self) -> Key:
        """Partition and sort key; they never change."""

    @property
    def index_key(self) -> Key | None:
        """Partition and sort key in the index; None keeps the row out of it."""


R = TypeVar("R", bound=Row)
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """The table's definition, for `create_table` here and for the CDK app. All keys are text.

    On-demand billing, streams off. The index projects keys only: a listing reads the rows themselves, 100 at
    a time, and a write that changes no state costs nothing in the index.
    """

    partition_key: str = "pk"
    sort_key: str = "sk"
    index: str = "by_state"
    index_partition_key: str = "index_pk"
    index_sort_key: str = "index_sk"
    projection: str = "KEYS_ONLY"
    billing_mode: str = "PAY_PER_REQUEST"
    ttl_attribute: str = "expires_at"


TABLE: Final = TableDefinition()


def create_table(client: Any, name: str) -> None:
    """Create the table, for the local system and for tests, unless it exists.

    Args:
        client: boto3's DynamoDB client.
    """
    keys = (TABLE.partition_key, TABLE.sort_key, TABLE.index_partition_key, TABLE.index_sort_key)
    with _explaining(name):
        try:
            client.create_table(
                TableName=name,
                BillingMode=TABLE.billing_mode,
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                KeySchema=_schema(TABLE.partition_key, TABLE.sort_key),
                GlobalSecondaryIndexes=[
                    {
                        "IndexName": TABLE.index,
                        "KeySchema": _schema(TABLE.index_partition_key, TABLE.index_sort_key),
                        "Projection": {"ProjectionType": TABLE.projection},
                    }
                ],
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceInUseException":
                return
            raise
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        ttl = {"Enabled": True, "AttributeName": TABLE.ttl_attribute}
        client.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)


def _schema(partition_key: str, sort_key: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": partition_key, "KeyType": "HASH"},
        {"AttributeName": sort_key, "KeyType": "RANGE"},
    ]


@dataclass(frozen=True, slots=True)
class Entry:
    """A row's entry in the index."""

    sort_key: str
    key: Key


class Table:
    """Dataclass rows in one DynamoDB table. Safe to use from several threads.

    Args:
        name: of the table.
        client: boto3's DynamoDB client; by default one made from the environment.
        workers: concurrent calls in one operation on many rows.
    """

    def __init__(self, name: str, client: Any = None, workers: int = 16) -> None:
        self.name = name
        self._workers = workers
        with _explaining(name):
            self._client = client or boto3.client(
                "dynamodb",
                config=Config(
                    # A new on-demand table accepts 4,000 writes per second and doubles within 30 minutes;
                    # until then, ten tries take 20 to 60 seconds.
                    retries={"mode": "standard", "max_attempts": 10},
                    max_pool_connections=workers,
                    connect_timeout=5,
                    read_timeout=10,
                ),
            )

    def change(
        self,
        kind: type[R],
        key: Key,
        rule: Callable[[R | None], Result[R]],
        known: R | None = None,
    ) -> Result[R]:
        """Apply a rule to a row with one conditional write.

        The condition is that the row's `revision` is still the one that the rule saw. If it is not, DynamoDB
        returns the current row and the rule decides again, without another read. A write that botocore
        repeats after a lost response finds its own result, for which rules return `ALREADY`.

        Args:
            kind: the dataclass of the row.
            key: the row's key.
            rule: takes the row, or None if there is none; may be called several times.
            known: the row, if the caller has read it; None assumes that there is none.

        Returns:
            The rule's outcome and the stored row.
        """
        row = known
        for attempt in range(_TRIES):
            result = rule(row)
            if result.row is None or result.row == row:
                return result
            revision = row.revision + 1 if row else 1
            changed: R = replace(result.row, revision=revision)  # type: ignore[type-var]
            refused = self._put(changed, row.revision if row else None)
            if refused is None:
                return Result(result.outcome, changed)
            row = _from_item(kind, refused) if refused else None
            if attempt > 2:
                time.sleep(random.uniform(0, 0.05))  # noqa: S311  spreads competing writers of one row
        raise LedgerError(f"ledger {self.name}: {key[0]} has too many concurrent writers; try again")

    def _put(self, row: Row, over: int | None) -> _Item | None:
        """Write a row over a revision, or (None) where there is none. Returns None if written, else the
        current item."""
        options: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(revision)"}
        if over is not None:
            options["ConditionExpression"] = "revision = :over"
            options["ExpressionAttributeValues"] = {":over": {"N": str(over)}}
        with _explaining(self.name):
            try:
                self._client.put_item(
                    TableName=self.name,
                    Item=_to_item(row),
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **options,
                )
            except ClientError as refusal:
                if refusal.response["Error"]["Code"] != "ConditionalCheckFailedException":
                    raise
                item: _Item = refusal.response.get("Item") or {}
                return item or self._read(row.row_key)
        return None

    def _read(self, key: Key) -> _Item:
        answer = self._client.get_item(TableName=self.name, Key=_key_item(key), ConsistentRead=True)
        item: _Item = answer.get("Item", {})
        return item

    def get(self, kind: type[R], key: Key) -> R | None:
        """Read one row, strongly consistent."""
        with _explaining(self.name):
            item = self._read(key)
        return _from_item(kind, item) if item else None

    def get_many(self, kind: type[R], keys: Iterable[Key]) -> dict[Key, R]:
        """Read rows, strongly consistent, 100 per call; missing rows are left out."""
        wanted = list(dict.fromkeys(keys))
        batches = [wanted[i : i + _BATCH] for i in range(0, len(wanted), _BATCH)]
        items = [item for found in self.each(self._read_batch, batches) for item in found]
        return {
            (item[TABLE.partition_key]["S"], item[TABLE.sort_key]["S"]): _from_item(kind, item)
            for item in items
        }

    def _read_batch(self, keys: Sequence[Key]) -> list[_Item]:
        request: dict[str, Any] = {
            self.name: {"Keys": [_key_item(key) for key in keys], "ConsistentRead": True}
        }
        items: list[_Item] = []
        with _explaining(self.name):
            for attempt in range(10):
                answer = self._client.batch_get_item(RequestItems=request)
                items += answer["Responses"].get(self.name, [])
                request = answer.get("UnprocessedKeys") or {}
                if not request:
                    return items
                time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311
        raise LedgerError(f"ledger {self.name}: DynamoDB is short of read capacity; try again in a minute")

    def rows_under(
        self, kind: type[R], partition: str, prefix: str, limit: int, *, newest_first: bool = True
    ) -> list[R]:
        """Rows of one partition by prefix of the sort key, in its order."""
        with _explaining(self.name):
            answer = self._client.query(
                TableName=self.name,
                KeyConditionExpression="#pk = :pk AND begins_with(#sk, :prefix)",
                ExpressionAttributeNames={"#pk": TABLE.partition_key, "#sk": TABLE.sort_key},
                ExpressionAttributeValues={":pk": {"S": partition}, ":prefix": {"S": prefix}},
                ScanIndexForward=not newest_first,
                Limit=limit,
            )
        return [_from_item(kind, item) for item in answer["Items"]]

    def keys_under(self, partition: str) -> list[Key]:
        """The keys of all rows of one partition of the table."""
        keys: list[Key] = []
        after: dict[str, Any] = {}
        while True:
            with _explaining(self.name):
                answer = self._client.query(
                    TableName=self.name,
                    KeyConditionExpression="#pk = :pk",
                    ProjectionExpression="#pk, #sk",
                    ExpressionAttributeNames={"#pk": TABLE.partition_key, "#sk": TABLE.sort_key},
                    ExpressionAttributeValues={":pk": {"S": partition}},
                    **after,
                )
            keys += [(item[TABLE.partition_key]["S"], item[TABLE.sort_key]["S"]) for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                return keys
            after = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def delete(self, keys: Sequence[Key]) -> None:
        """Delete rows, the last one after all others; missing rows are no error."""
        self.each(self._delete, keys[:-1])
        self.each(self._delete, keys[-1:])

    def _delete(self, key: Key) -> None:
        with _explaining(self.name):
            self._client.delete_item(TableName=self.name, Key=_key_item(key))

    def entries(
        self, partitions: Sequence[str], low: str = " ", high: str = _LAST, page: int = _PAGE
    ) -> Iterator[Entry]:
        """Stream the entries of several index partitions in the order of their sort keys.

        Args:
            partitions: of the index.
            low, high: least and greatest sort key, both inclusive.
            page: entries to fetch per partition; choose it small to read only the first.
        """
        firsts = self.each(lambda partition: self._page(partition, low, high, page, None), partitions)
        streams = [
            self._stream(partition, low, high, page, first)
            for partition, first in zip(partitions, firsts, strict=True)
        ]
        return heapq.merge(*streams, key=lambda entry: entry.sort_key)

    def _stream(
        self, partition: str, low: str, high: str, page: int, first: tuple[list[Entry], Any]
    ) -> Iterator[Entry]:
        entries, after = first
        yield from entries
        while after:
            entries, after = self._page(partition, low, high, page, after)
            yield from entries

    def _page(self, partition: str, low: str, high: str, page: int, after: Any) -> tuple[list[Entry], Any]:
        answer = self._query(partition, low, high, after, Limit=page)
        entries = [
            Entry(
                item[TABLE.index_sort_key]["S"], (item[TABLE.partition_key]["S"], item[TABLE.sort_key]["S"])
            )
            for item in answer["Items"]
        ]
        return entries, answer.get("LastEvaluatedKey")

    def count(self, partition: str, low: str = " ", high: str = _LAST) -> int:
        """How many entries an index partition has between two sort keys, both inclusive.

        ``Select=COUNT`` reads 1 MB per call and returns no items.
        """
        counted, after = 0, None
        while True:
            answer = self._query(partition, low, high, after, Select="COUNT")
            counted += int(answer["Count"])
            after = answer.get("LastEvaluatedKey")
            if not after:
                return counted

    def _query(self, partition: str, low: str, high: str, after: Any, **options: Any) -> Any:
        if after:
            options["ExclusiveStartKey"] = after
        with _explaining(self.name):
            return self._client.query(
                TableName=self.name,
                IndexName=TABLE.index,
                KeyConditionExpression="#pk = :pk AND #sk BETWEEN :low AND :high",
                ExpressionAttributeNames={
                    "#pk": TABLE.index_partition_key,
                    "#sk": TABLE.index_sort_key,
                },
                ExpressionAttributeValues={
                    ":pk": {"S": partition},
                    ":low": {"S": low},
                    ":high": {"S": high},
                },
                **options,
            )

    def each(self, function: Callable[[T], U], items: Iterable[T]) -> list[U]:
        """Call a function for each item, in parallel; results in the order of the items."""
        listed = list(items)
        if len(listed) < 2:
            return [function(item) for item in listed]
        with ThreadPoolExecutor(min(self._workers, len(listed))) as pool:
            return list(pool.map(function, listed))


def _key_item(key: Key) -> _Item:
    return {TABLE.partition_key: {"S": key[0]}, TABLE.sort_key: {"S": key[1]}}


def _to_item(row: Row) -> _Item:
    """A dataclass as DynamoDB attributes; None, False and empty values are not stored."""
    item = _key_item(row.row_key)
    for each in fields(row):  # type: ignore[arg-type]
        value = getattr(row, each.name)
        if value is not None and value is not False and value != () and value != {}:
            item[each.name] = _to_attribute(value)
    if row.index_key:
        item[TABLE.index_partition_key] = {"S": row.index_key[0]}
        item[TABLE.index_sort_key] = {"S": row.index_key[1]}
    return item


def _to_attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"S": str(value)}
    if isinstance(value, bool):
        return {"N": str(int(value))}
    if isinstance(value, int | float):
        return {"N": str(value)}
    if isinstance(value, datetime):
        return {"S": time_text(value)}
    if isinstance(value, tuple):
        return {"L": [_to_attribute(each) for each in value]}
    return {"M": {name: _to_attribute(each) for name, each in value.items()}}


def _from_item(kind: type[R], item: _Item) -> R:
    """The dataclass that `_to_item` wrote. Attributes of a newer boxdrop are ignored."""
    types_ = _types_of(kind)
    values = {name: _from_attribute(types_[name], item[name]) for name in types_ if name in item}
    return kind(**values)


def _from_attribute(type_: Any, attribute: dict[str, Any]) -> Any:
    ((tag, value),) = attribute.items()
    if tag == "N":
        return type_(int(value)) if type_ is bool else float(value) if type_ is float else int(value)
    if tag == "L":
        return tuple(_from_attribute(str, each) for each in value)
    if tag == "M":
        return {name: _from_attribute(int, each) for name, each in value.items()}
    if type_ is datetime:
        return read_time(value)
    return type_(value) if isinstance(type_, type) and issubclass(type_, StrEnum) else value


@cache
def _types_of(kind: type) -> Mapping[str, Any]:
    """Types of a dataclass's fields, ``X`` for ``X | None``."""
    return {name: _without_none(type_) for name, type_ in get_type_hints(kind).items()}


def _without_none(type_: Any) -> Any:
    if get_origin(type_) in (Union, types.UnionType):
        return next(each for each in get_args(type_) if each is not type(None))
    return type_


@contextmanager
def _explaining(table: str) -> Iterator[None]:
    """Turn boto3's exceptions into one sentence that says what to do."""
    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        code, message = details.get("Code", ""), details.get("Message", "")
        sentence = {
            "ResourceNotFoundException": "there is no such table in this account and region; deploy boxdrop, "
            "or check the table's name and AWS_REGION",
            "AccessDeniedException": f"these credentials may not use it ({message})",
            "UnrecognizedClientException": "AWS does not know these credentials; sign in again",
            "ExpiredTokenException": "these credentials have expired; sign in again",
            "ProvisionedThroughputExceededException": _THROTTLED,
            "ThrottlingException": _THROTTLED,
            "RequestLimitExceeded": "this account's DynamoDB limit is reached; try again in a minute",
        }.get(code, f"DynamoDB refused: {message} ({code})")
        raise LedgerError(f"ledger {table}: {sentence}") from error
    except BotoCoreError as error:
        raise LedgerError(f"ledger {table}: DynamoDB cannot be reached: {error}") from error
