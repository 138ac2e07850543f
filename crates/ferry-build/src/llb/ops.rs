//! The messages of BuildKit's `solver/pb/ops.proto`, tag by tag, as far as Ferry speaks them.
//! Maps are ordered, so that equal messages have equal bytes and equal digests.

use std::collections::BTreeMap;

/// A vertex of the graph.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Op {
    /// Edges to what this needs.
    #[prost(message, repeated, tag = "1")]
    pub inputs: Vec<Input>,
    /// What is done.
    #[prost(oneof = "Kind", tags = "2, 3, 4")]
    pub kind: Option<Kind>,
    /// For which platform.
    #[prost(message, optional, tag = "10")]
    pub platform: Option<Platform>,
}

/// What a vertex does.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// Runs a command.
    #[prost(message, tag = "2")]
    Exec(ExecOp),
    /// Brings something in.
    #[prost(message, tag = "3")]
    Source(SourceOp),
    /// Changes files.
    #[prost(message, tag = "4")]
    File(FileOp),
}

/// An edge.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Input {
    /// Digest of the other vertex' message.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Which of its outputs.
    #[prost(int64, tag = "2")]
    pub index: i64,
}

/// A platform.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Platform {
    /// `amd64`
    #[prost(string, tag = "1")]
    pub architecture: String,
    /// `linux`
    #[prost(string, tag = "2")]
    pub os: String,
    /// `v7`
    #[prost(string, tag = "3")]
    pub variant: String,
}

/// A command in a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecOp {
    /// The process.
    #[prost(message, optional, tag = "1")]
    pub meta: Option<Meta>,
    /// Root file system and mounts.
    #[prost(message, repeated, tag = "2")]
    pub mounts: Vec<Mount>,
    /// The network.
    #[prost(enumeration = "NetMode", tag = "3")]
    pub network: i32,
    /// The isolation.
    #[prost(enumeration = "SecurityMode", tag = "4")]
    pub security: i32,
    /// Variables that carry secrets.
    #[prost(message, repeated, tag = "5")]
    pub secret_env: Vec<SecretEnv>,
}

/// A process.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Meta {
    /// Program and arguments.
    #[prost(string, repeated, tag = "1")]
    pub args: Vec<String>,
    /// `NAME=value`
    #[prost(string, repeated, tag = "2")]
    pub env: Vec<String>,
    /// Working directory.
    #[prost(string, tag = "3")]
    pub cwd: String,
    /// `user[:group]`
    #[prost(string, tag = "4")]
    pub user: String,
    /// Proxies: variables that are no part of the cache key.
    #[prost(message, optional, tag = "5")]
    pub proxy_env: Option<ProxyEnv>,
    /// Lines for /etc/hosts.
    #[prost(message, repeated, tag = "6")]
    pub extra_hosts: Vec<HostIp>,
    /// Host name.
    #[prost(string, tag = "7")]
    pub hostname: String,
    /// Limits.
    #[prost(message, repeated, tag = "9")]
    pub ulimits: Vec<Ulimit>,
    /// Parent control group.
    #[prost(string, tag = "10")]
    pub cgroup_parent: String,
}

/// A line of /etc/hosts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HostIp {
    /// Name.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Address.
    #[prost(string, tag = "2")]
    pub ip: String,
}

/// A limit.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ulimit {
    /// `nofile`
    #[prost(string, tag = "1")]
    pub name: String,
    /// Soft limit.
    #[prost(int64, tag = "2")]
    pub soft: i64,
    /// Hard limit.
    #[prost(int64, tag = "3")]
    pub hard: i64,
}

/// The network of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum NetMode {
    /// The default bridge.
    Unset = 0,
    /// The host's.
    Host = 1,
    /// None.
    None = 2,
}

/// The isolation of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SecurityMode {
    /// As `run` has it.
    Sandbox = 0,
    /// Privileged.
    Insecure = 1,
}

/// A variable that carries a secret.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SecretEnv {
    /// The secret.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The variable.
    #[prost(string, tag = "2")]
    pub name: String,
    /// No such secret is no error.
    #[prost(bool, tag = "3")]
    pub optional: bool,
}

/// A mount of a command; the one at `/` is its root.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mount {
    /// Which input, -1 for none.
    #[prost(int64, tag = "1")]
    pub input: i64,
    /// Path inside the input.
    #[prost(string, tag = "2")]
    pub selector: String,
    /// Path in the container.
    #[prost(string, tag = "3")]
    pub dest: String,
    /// Which output the changes become, -1 for none.
    #[prost(int64, tag = "4")]
    pub output: i64,
    /// No writes.
    #[prost(bool, tag = "5")]
    pub readonly: bool,
    /// What kind.
    #[prost(enumeration = "MountType", tag = "6")]
    pub mount_type: i32,
    /// For tmpfs.
    #[prost(message, optional, tag = "19")]
    pub tmpfs: Option<TmpfsOpt>,
    /// For caches.
    #[prost(message, optional, tag = "20")]
    pub cache: Option<CacheOpt>,
    /// For secrets.
    #[prost(message, optional, tag = "21")]
    pub secret: Option<SecretOpt>,
    /// For agents' sockets.
    #[prost(message, optional, tag = "22")]
    pub ssh: Option<SshOpt>,
}

/// Kinds of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
#[expect(missing_docs, reason = "named as the values of --mount=type= are")]
pub enum MountType {
    Bind = 0,
    Secret = 1,
    Ssh = 2,
    Cache = 3,
    Tmpfs = 4,
}

/// Options of a tmpfs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TmpfsOpt {
    /// Bytes, 0 for the kernel's default.
    #[prost(int64, tag = "1")]
    pub size: i64,
}

/// Options of a cache.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CacheOpt {
    /// Which cache.
    #[prost(string, tag = "1")]
    pub id: String,
    /// How writers share it.
    #[prost(enumeration = "CacheSharing", tag = "2")]
    pub sharing: i32,
    /// Ferry's own: permissions that a new cache gets.
    #[prost(uint32, tag = "1000")]
    pub mode: u32,
    /// Ferry's own: owner that a new cache gets.
    #[prost(uint32, tag = "1001")]
    pub uid: u32,
    /// Ferry's own: group that a new cache gets.
    #[prost(uint32, tag = "1002")]
    pub gid: u32,
}

/// How writers share a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
#[expect(missing_docs, reason = "named as the values of sharing= are")]
pub enum CacheSharing {
    Shared = 0,
    Private = 1,
    Locked = 2,
}

/// Options of a secret.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SecretOpt {
    /// Which secret.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Owner.
    #[prost(uint32, tag = "2")]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = "3")]
    pub gid: u32,
    /// Permissions.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// No such secret is no error.
    #[prost(bool, tag = "5")]
    pub optional: bool,
}

/// Options of an agent's socket.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SshOpt {
    /// Which agent.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Owner.
    #[prost(uint32, tag = "2")]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = "3")]
    pub gid: u32,
    /// Permissions.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// No such agent is no error.
    #[prost(bool, tag = "5")]
    pub optional: bool,
}

/// Something from outside.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SourceOp {
    /// `docker-image://`, `local://`, `https://`, `git://`
    #[prost(string, tag = "1")]
    pub identifier: String,
    /// Options by name.
    #[prost(btree_map = "string, string", tag = "2")]
    pub attrs: BTreeMap<String, String>,
}

/// Changes of files, in order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileOp {
    /// The changes.
    #[prost(message, repeated, tag = "2")]
    pub actions: Vec<FileAction>,
}

/// One change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileAction {
    /// What is changed: an input, or `inputs + n` for the result of action n; -1 for scratch.
    #[prost(int64, tag = "1")]
    pub input: i64,
    /// What is copied from, numbered likewise.
    #[prost(int64, tag = "2")]
    pub secondary_input: i64,
    /// Which output the result becomes, -1 for none.
    #[prost(int64, tag = "3")]
    pub output: i64,
    /// The change.
    #[prost(oneof = "Action", tags = "4, 5, 6")]
    pub action: Option<Action>,
}

/// Kinds of changes.
#[derive(Clone, PartialEq, prost::Oneof)]
#[expect(missing_docs, reason = "named as the messages are")]
pub enum Action {
    #[prost(message, tag = "4")]
    Copy(FileActionCopy),
    #[prost(message, tag = "5")]
    Mkfile(FileActionMkFile),
    #[prost(message, tag = "6")]
    Mkdir(FileActionMkDir),
}

/// Copies files.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileActionCopy {
    /// Path or pattern.
    #[prost(string, tag = "1")]
    pub src: String,
    /// Target; a trailing slash means a directory.
    #[prost(string, tag = "2")]
    pub dest: String,
    /// New owner.
    #[prost(message, optional, tag = "3")]
    pub owner: Option<ChownOpt>,
    /// New permissions, -1 to keep.
    #[prost(int32, tag = "4")]
    pub mode: i32,
    /// Links in `src` are followed.
    #[prost(bool, tag = "5")]
    pub follow_symlink: bool,
    /// A directory gives its contents, not itself.
    #[prost(bool, tag = "6")]
    pub dir_copy_contents: bool,
    /// An archive gives its contents.
    #[prost(bool, tag = "7")]
    pub attempt_unpack: bool,
    /// Missing parents of `dest` are made.
    #[prost(bool, tag = "8")]
    pub create_dest_path: bool,
    /// `src` is a pattern.
    #[prost(bool, tag = "9")]
    pub allow_wildcard: bool,
    /// A pattern without matches is no error.
    #[prost(bool, tag = "10")]
    pub allow_empty_wildcard: bool,
    /// New modification time, -1 to keep.
    #[prost(int64, tag = "11")]
    pub timestamp: i64,
    /// Only what matches (with its parents).
    #[prost(string, repeated, tag = "12")]
    pub include_patterns: Vec<String>,
    /// Not what matches.
    #[prost(string, repeated, tag = "13")]
    pub exclude_patterns: Vec<String>,
    /// What is in the way is replaced.
    #[prost(bool, tag = "14")]
    pub always_replace: bool,
    /// New permissions as text: `0755`, `u+x,go-w`.
    #[prost(string, tag = "15")]
    pub mode_text: String,
}

/// Makes a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileActionMkFile {
    /// Where.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Permissions.
    #[prost(int32, tag = "2")]
    pub mode: i32,
    /// Contents.
    #[prost(bytes = "vec", tag = "3")]
    pub data: Vec<u8>,
    /// Owner.
    #[prost(message, optional, tag = "4")]
    pub owner: Option<ChownOpt>,
    /// Modification time, -1 for now.
    #[prost(int64, tag = "5")]
    pub timestamp: i64,
}

/// Makes a directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileActionMkDir {
    /// Where.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Permissions.
    #[prost(int32, tag = "2")]
    pub mode: i32,
    /// With its parents.
    #[prost(bool, tag = "3")]
    pub make_parents: bool,
    /// Owner.
    #[prost(message, optional, tag = "4")]
    pub owner: Option<ChownOpt>,
    /// Modification time, -1 for now.
    #[prost(int64, tag = "5")]
    pub timestamp: i64,
}

/// A new owner.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChownOpt {
    /// The user.
    #[prost(message, optional, tag = "1")]
    pub user: Option<UserOpt>,
    /// The group.
    #[prost(message, optional, tag = "2")]
    pub group: Option<UserOpt>,
}

/// A user or group by name or number.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserOpt {
    /// Which.
    #[prost(oneof = "User", tags = "1, 2")]
    pub user: Option<User>,
}

/// How a user is given.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum User {
    /// By a name that the target's own files resolve.
    #[prost(message, tag = "1")]
    ByName(NamedUserOpt),
    /// By number.
    #[prost(uint32, tag = "2")]
    ById(u32),
}

/// A name, and whose /etc/passwd resolves it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NamedUserOpt {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The input with the files.
    #[prost(int64, tag = "2")]
    pub input: i64,
}

/// Proxy variables.
#[derive(Clone, PartialEq, prost::Message)]
#[expect(missing_docs, reason = "named as the variables are")]
pub struct ProxyEnv {
    #[prost(string, tag = "1")]
    pub http_proxy: String,
    #[prost(string, tag = "2")]
    pub https_proxy: String,
    #[prost(string, tag = "3")]
    pub ftp_proxy: String,
    #[prost(string, tag = "4")]
    pub no_proxy: String,
    #[prost(string, tag = "5")]
    pub all_proxy: String,
}

/// A marshalled graph; the last message points at the result.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Definition {
    /// Marshalled [`Op`]s.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub def: Vec<Vec<u8>>,
    /// What is beside the digests, by digest.
    #[prost(btree_map = "string, message", tag = "2")]
    pub metadata: BTreeMap<String, OpMetadata>,
}

/// What is known of a vertex outside of its digest.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpMetadata {
    /// No look-up in the cache.
    #[prost(bool, tag = "1")]
    pub ignore_cache: bool,
    /// Texts for people.
    #[prost(btree_map = "string, string", tag = "2")]
    pub description: BTreeMap<String, String>,
}
