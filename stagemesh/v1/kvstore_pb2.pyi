# mypy: disable-error-code="type-arg"
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PutOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PUT_OUTCOME_UNSPECIFIED: _ClassVar[PutOutcome]
    PUT_OUTCOME_COMMITTED: _ClassVar[PutOutcome]
    PUT_OUTCOME_EXISTS: _ClassVar[PutOutcome]
    PUT_OUTCOME_RESERVED: _ClassVar[PutOutcome]
    PUT_OUTCOME_BUSY: _ClassVar[PutOutcome]
    PUT_OUTCOME_NO_PARENT: _ClassVar[PutOutcome]
    PUT_OUTCOME_NO_CAPACITY: _ClassVar[PutOutcome]
    PUT_OUTCOME_QUOTA: _ClassVar[PutOutcome]
    PUT_OUTCOME_REVOKED: _ClassVar[PutOutcome]
    PUT_OUTCOME_UNKNOWN: _ClassVar[PutOutcome]
    PUT_OUTCOME_NOT_WRITTEN: _ClassVar[PutOutcome]
PUT_OUTCOME_UNSPECIFIED: PutOutcome
PUT_OUTCOME_COMMITTED: PutOutcome
PUT_OUTCOME_EXISTS: PutOutcome
PUT_OUTCOME_RESERVED: PutOutcome
PUT_OUTCOME_BUSY: PutOutcome
PUT_OUTCOME_NO_PARENT: PutOutcome
PUT_OUTCOME_NO_CAPACITY: PutOutcome
PUT_OUTCOME_QUOTA: PutOutcome
PUT_OUTCOME_REVOKED: PutOutcome
PUT_OUTCOME_UNKNOWN: PutOutcome
PUT_OUTCOME_NOT_WRITTEN: PutOutcome

class DataPlace(_message.Message):
    __slots__ = ("namespace", "redis_url", "cluster")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REDIS_URL_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    redis_url: str
    cluster: bool
    def __init__(self, namespace: _Optional[str] = ..., redis_url: _Optional[str] = ..., cluster: _Optional[bool] = ...) -> None: ...

class MatchRequest(_message.Message):
    __slots__ = ("fingerprint", "chains", "lease_ms")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CHAINS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    chains: _containers.RepeatedScalarFieldContainer[bytes]
    lease_ms: int
    def __init__(self, fingerprint: _Optional[bytes] = ..., chains: _Optional[_Iterable[bytes]] = ..., lease_ms: _Optional[int] = ...) -> None: ...

class MatchResponse(_message.Message):
    __slots__ = ("tokens", "sizes", "lease", "miss_reason", "place")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    MISS_REASON_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[str]
    sizes: _containers.RepeatedScalarFieldContainer[int]
    lease: str
    miss_reason: str
    place: DataPlace
    def __init__(self, tokens: _Optional[_Iterable[str]] = ..., sizes: _Optional[_Iterable[int]] = ..., lease: _Optional[str] = ..., miss_reason: _Optional[str] = ..., place: _Optional[_Union[DataPlace, _Mapping]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("fingerprint", "chains", "tokens", "sizes")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CHAINS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    chains: _containers.RepeatedScalarFieldContainer[bytes]
    tokens: _containers.RepeatedScalarFieldContainer[str]
    sizes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, fingerprint: _Optional[bytes] = ..., chains: _Optional[_Iterable[bytes]] = ..., tokens: _Optional[_Iterable[str]] = ..., sizes: _Optional[_Iterable[int]] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("index", "value", "miss")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    MISS_FIELD_NUMBER: _ClassVar[int]
    index: int
    value: bytes
    miss: Miss
    def __init__(self, index: _Optional[int] = ..., value: _Optional[bytes] = ..., miss: _Optional[_Union[Miss, _Mapping]] = ...) -> None: ...

class Miss(_message.Message):
    __slots__ = ("reason", "detail")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: str
    detail: str
    def __init__(self, reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class PutPlan(_message.Message):
    __slots__ = ("fingerprint", "chains", "sizes", "parent", "tenant", "model", "lease", "pinned")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CHAINS_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    chains: _containers.RepeatedScalarFieldContainer[bytes]
    sizes: _containers.RepeatedScalarFieldContainer[int]
    parent: bytes
    tenant: str
    model: str
    lease: str
    pinned: bool
    def __init__(self, fingerprint: _Optional[bytes] = ..., chains: _Optional[_Iterable[bytes]] = ..., sizes: _Optional[_Iterable[int]] = ..., parent: _Optional[bytes] = ..., tenant: _Optional[str] = ..., model: _Optional[str] = ..., lease: _Optional[str] = ..., pinned: _Optional[bool] = ...) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("plan", "value")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    plan: PutPlan
    value: bytes
    def __init__(self, plan: _Optional[_Union[PutPlan, _Mapping]] = ..., value: _Optional[bytes] = ...) -> None: ...

class PutResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedScalarFieldContainer[PutOutcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[PutOutcome, str]]] = ...) -> None: ...

class ReserveRequest(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: PutPlan
    def __init__(self, plan: _Optional[_Union[PutPlan, _Mapping]] = ...) -> None: ...

class ReserveResponse(_message.Message):
    __slots__ = ("outcomes", "tokens", "expire_ms", "place")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_MS_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedScalarFieldContainer[PutOutcome]
    tokens: _containers.RepeatedScalarFieldContainer[str]
    expire_ms: int
    place: DataPlace
    def __init__(self, outcomes: _Optional[_Iterable[_Union[PutOutcome, str]]] = ..., tokens: _Optional[_Iterable[str]] = ..., expire_ms: _Optional[int] = ..., place: _Optional[_Union[DataPlace, _Mapping]] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("fingerprint", "chains", "tokens", "sizes")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CHAINS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    chains: _containers.RepeatedScalarFieldContainer[bytes]
    tokens: _containers.RepeatedScalarFieldContainer[str]
    sizes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, fingerprint: _Optional[bytes] = ..., chains: _Optional[_Iterable[bytes]] = ..., tokens: _Optional[_Iterable[str]] = ..., sizes: _Optional[_Iterable[int]] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedScalarFieldContainer[PutOutcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[PutOutcome, str]]] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("fingerprint", "chains", "tokens")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CHAINS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    chains: _containers.RepeatedScalarFieldContainer[bytes]
    tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, fingerprint: _Optional[bytes] = ..., chains: _Optional[_Iterable[bytes]] = ..., tokens: _Optional[_Iterable[str]] = ...) -> None: ...

class RevokeResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedScalarFieldContainer[PutOutcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[PutOutcome, str]]] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("fingerprint", "chains", "tokens", "reasons", "bytes_read")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CHAINS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    chains: _containers.RepeatedScalarFieldContainer[bytes]
    tokens: _containers.RepeatedScalarFieldContainer[str]
    reasons: _containers.RepeatedScalarFieldContainer[str]
    bytes_read: int
    def __init__(self, fingerprint: _Optional[bytes] = ..., chains: _Optional[_Iterable[bytes]] = ..., tokens: _Optional[_Iterable[str]] = ..., reasons: _Optional[_Iterable[str]] = ..., bytes_read: _Optional[int] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("dropped",)
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    dropped: int
    def __init__(self, dropped: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("lease", "lease_ms")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    lease: str
    lease_ms: int
    def __init__(self, lease: _Optional[str] = ..., lease_ms: _Optional[int] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: str
    def __init__(self, lease: _Optional[str] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("held",)
    HELD_FIELD_NUMBER: _ClassVar[int]
    held: bool
    def __init__(self, held: _Optional[bool] = ...) -> None: ...

class PinRequest(_message.Message):
    __slots__ = ("fingerprint", "chain", "pinned")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    chain: bytes
    pinned: bool
    def __init__(self, fingerprint: _Optional[bytes] = ..., chain: _Optional[bytes] = ..., pinned: _Optional[bool] = ...) -> None: ...

class PinResponse(_message.Message):
    __slots__ = ("found",)
    FOUND_FIELD_NUMBER: _ClassVar[int]
    found: bool
    def __init__(self, found: _Optional[bool] = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatsResponse(_message.Message):
    __slots__ = ("namespace", "capacity_bytes", "bytes", "blocks", "pending_bytes", "pending_blocks", "leases", "leases_expired", "garbage", "wanted", "found", "tenant_bytes", "puts", "removed")
    class TenantBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class PutsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class RemovedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    PENDING_BYTES_FIELD_NUMBER: _ClassVar[int]
    PENDING_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LEASES_EXPIRED_FIELD_NUMBER: _ClassVar[int]
    GARBAGE_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    TENANT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PUTS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    capacity_bytes: int
    bytes: int
    blocks: int
    pending_bytes: int
    pending_blocks: int
    leases: int
    leases_expired: int
    garbage: int
    wanted: int
    found: int
    tenant_bytes: _containers.ScalarMap[str, int]
    puts: _containers.ScalarMap[str, int]
    removed: _containers.ScalarMap[str, int]
    def __init__(self, namespace: _Optional[str] = ..., capacity_bytes: _Optional[int] = ..., bytes: _Optional[int] = ..., blocks: _Optional[int] = ..., pending_bytes: _Optional[int] = ..., pending_blocks: _Optional[int] = ..., leases: _Optional[int] = ..., leases_expired: _Optional[int] = ..., garbage: _Optional[int] = ..., wanted: _Optional[int] = ..., found: _Optional[int] = ..., tenant_bytes: _Optional[_Mapping[str, int]] = ..., puts: _Optional[_Mapping[str, int]] = ..., removed: _Optional[_Mapping[str, int]] = ...) -> None: ...

class PurgeRequest(_message.Message):
    __slots__ = ("tenant", "model")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    model: str
    def __init__(self, tenant: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class PurgeResponse(_message.Message):
    __slots__ = ("blocks",)
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    blocks: int
    def __init__(self, blocks: _Optional[int] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("tenant", "model", "limit")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    model: str
    limit: int
    def __init__(self, tenant: _Optional[str] = ..., model: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("blocks",)
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[BlockInfo]
    def __init__(self, blocks: _Optional[_Iterable[_Union[BlockInfo, _Mapping]]] = ...) -> None: ...

class BlockInfo(_message.Message):
    __slots__ = ("fingerprint", "chain", "parent", "token", "size", "tenant", "model", "uses", "idle_ms", "committed", "pinned", "leases")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    IDLE_MS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    chain: bytes
    parent: bytes
    token: str
    size: int
    tenant: str
    model: str
    uses: int
    idle_ms: int
    committed: bool
    pinned: bool
    leases: int
    def __init__(self, fingerprint: _Optional[bytes] = ..., chain: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., token: _Optional[str] = ..., size: _Optional[int] = ..., tenant: _Optional[str] = ..., model: _Optional[str] = ..., uses: _Optional[int] = ..., idle_ms: _Optional[int] = ..., committed: _Optional[bool] = ..., pinned: _Optional[bool] = ..., leases: _Optional[int] = ...) -> None: ...
