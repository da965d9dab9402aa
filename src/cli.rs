//! What can be written on the command line. Only definitions: completions and man pages come from here too.

mod evidence;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use nodeseal_wire::header::{KeyType, Release};

use crate::config::{Address, Encoding};
use crate::run::LaunchArguments;

pub use evidence::{
    AttestArgs, JudgeArgs, PolicyAwsCommand, PolicyAzureCommand, PolicyCommand, PolicyDiffArgs,
    PolicyLintArgs, PolicyShowArgs, VerifyArgs,
};

/// Keeps the private keys of blockchain nodes sealed at rest, and opens them only inside trusted hardware.
#[derive(Debug, Parser)]
#[command(name = "nodeseal", version, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage or configuration, \
    3 denied by a policy, 4 damaged or unexpected blob, 5 something needed cannot be reached."
)]
pub struct Cli {
    /// Configuration file [default: ./nodeseal.toml, else /etc/nodeseal/nodeseal.toml]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Report as one JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a configuration file with comments
    Init(InitArgs),
    /// Seal key files, or the key files of a directory
    Seal(SealArgs),
    /// Make a key inside the trusted side and seal it
    Generate(GenerateArgs),
    /// Open sealed keys
    Open(OpenArgs),
    /// Start a node with its keys open, and supervise it
    Run(RunArgs),
    /// Show everything sealed blobs say without being opened
    Inspect(InspectArgs),
    /// Show how the trusted side is
    Status,
    /// Print what an enclave logs, as it comes, until stopped
    EnclaveLog(EnclaveLogArgs),
    /// Make the trusted side wipe every key and data key it holds
    Lock,
    /// Seal keys again under a new data key, in place
    Rotate(RotateArgs),
    /// Let the trusted side prove what it runs, and verify it
    Attest(AttestArgs),
    /// Verify an attestation document: every check with its outcome
    Verify(VerifyArgs),
    /// Write, check and compare policies of key management services
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Check the audit log, or tell what is in it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Write the man pages to a directory
    Man(ManArgs),
    /// Become the node (started by `run`)
    #[command(name = "__launch", hide = true)]
    Launch(LaunchArguments),
}

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Id of the node [default: this machine's host name]
    #[arg(long, value_name = "ID")]
    pub node: Option<String>,
    /// Address of the trusted side: unix:PATH, vsock:CID:PORT or hybrid:PATH:PORT
    #[arg(long, value_name = "ADDRESS", default_value = "unix:/run/nodeseal-tpm/tpm.sock",
        value_parser = |text: &str| Address::try_from(text.to_owned()))]
    pub trusted: Address,
}

/// `enclave-log`.
#[derive(Debug, Args)]
pub struct EnclaveLogArgs {
    /// vsock port the enclave sends its log to: `log.port` of its configuration
    #[arg(long, value_name = "PORT", default_value_t = 5002)]
    pub port: u32,
}

/// `seal`.
#[derive(Debug, Args)]
pub struct SealArgs {
    /// Key files; of a directory, its key files (or all files, where none is recognised as one)
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// Type of the keys [default: as configured, else opaque]
    #[arg(long = "type", value_name = "TYPE", value_parser = key_types())]
    pub key_type: Option<KeyType>,
    /// Name of the key, for a single file [default: its file name, or path within the directory]
    #[arg(long)]
    pub name: Option<String>,
    /// What may happen to the keys once open
    #[arg(long, default_value = Release::Deliver.name(), value_parser = releases())]
    pub release: Release,
    /// Directory for the sealed blobs [default: that of the configuration]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub to: Option<PathBuf>,
    /// Seal under the data key of this blob instead of a new one
    #[arg(long, value_name = "BLOB", value_hint = ValueHint::FilePath)]
    pub join: Option<PathBuf>,
    /// Remove each plaintext file, after its blob was opened once and compared with it
    #[arg(long)]
    pub shred: bool,
    /// Pass over keys that are sealed already
    #[arg(long)]
    pub skip_existing: bool,
    /// Of a directory, seal every regular file
    #[arg(long)]
    pub all: bool,
}

/// `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Name of the key
    #[arg(long)]
    pub name: String,
    /// Type of the key
    #[arg(long = "type", value_name = "TYPE", value_parser = key_types_made())]
    pub key_type: KeyType,
    /// What may happen to the key once open
    #[arg(long, default_value = Release::Deliver.name(), value_parser = releases())]
    pub release: Release,
    /// Directory for the sealed blob [default: that of the configuration]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub to: Option<PathBuf>,
    /// Seal under the data key of this blob instead of a new one
    #[arg(long, value_name = "BLOB", value_hint = ValueHint::FilePath)]
    pub join: Option<PathBuf>,
}

/// `open`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true))]
pub struct OpenArgs {
    /// Names of keys, sealed blobs, or directories of them
    #[arg(required = true, value_name = "NAME|BLOB", value_hint = ValueHint::AnyPath)]
    pub keys: Vec<OsString>,
    /// New file for the key, or existing directory for any number of keys
    #[arg(long, value_name = "FILE|DIR", group = "where", value_hint = ValueHint::AnyPath)]
    pub to: Option<PathBuf>,
    /// Write the one key to standard output
    #[arg(long, group = "where", conflicts_with = "json")]
    pub stdout: bool,
    /// Only see whether all of them open; write none
    #[arg(long, group = "where")]
    pub check: bool,
    /// How typed keys are written [default: as configured, else raw]
    #[arg(long, value_name = "ENCODING")]
    pub encoding: Option<Encoding>,
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Sealed blobs
    #[arg(required = true, value_name = "BLOB", value_hint = ValueHint::FilePath)]
    pub blobs: Vec<PathBuf>,
}

/// `rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Names of keys, or sealed blobs
    #[arg(required_unless_present = "all", value_name = "NAME|BLOB", value_hint = ValueHint::AnyPath)]
    pub keys: Vec<OsString>,
    /// Every blob in the configuration's directory
    #[arg(long, conflicts_with = "keys")]
    pub all: bool,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The node's program and arguments; {NAME} in an argument becomes the path of the key NAME
    #[arg(last = true, required = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// `audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that no record was edited, removed, moved or cut off
    Verify(AuditVerifyArgs),
    /// Count what is in the log
    Report(AuditReportArgs),
    /// Compare the log with CloudTrail: requests to KMS that only one of them has
    Reconcile(AuditReconcileArgs),
}

/// `audit verify`.
#[derive(Debug, Args)]
pub struct AuditVerifyArgs {
    /// Logs, oldest first where one was moved away [default: that of the configuration]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// File with the number and hash of the last record [default: the last log's name with .head added]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub head: Option<PathBuf>,
}

/// `audit report`.
#[derive(Debug, Args)]
pub struct AuditReportArgs {
    /// Logs, oldest first [default: that of the configuration]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
}

/// `audit reconcile`.
#[derive(Debug, Args)]
pub struct AuditReconcileArgs {
    /// Logs of the nodes that share the KMS keys [default: that of the configuration]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// CloudTrail's records: files of a trail, unpacked, or what `aws cloudtrail lookup-events` answered
    #[arg(long, required = true, num_args = 1.., value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub cloudtrail: Vec<PathBuf>,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory for the pages
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub directory: PathBuf,
}

fn key_types() -> impl TypedValueParser<Value = KeyType> {
    PossibleValuesParser::new(KeyType::ALL.map(KeyType::name))
        .map(|name| KeyType::from_name(&name).unwrap_or(KeyType::Opaque))
}

/// Opaque bytes cannot be made, only given.
fn key_types_made() -> impl TypedValueParser<Value = KeyType> {
    let made = KeyType::ALL.into_iter().filter(|t| *t != KeyType::Opaque);
    PossibleValuesParser::new(made.map(KeyType::name).collect::<Vec<_>>())
        .map(|name| KeyType::from_name(&name).unwrap_or(KeyType::Opaque))
}

fn releases() -> impl TypedValueParser<Value = Release> {
    PossibleValuesParser::new([Release::Deliver, Release::Sign].map(Release::name))
        .map(|name| Release::from_name(&name).unwrap_or(Release::Deliver))
}
