//! Attestation and release policies: `verify`, `attest`, `policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use nodeseal_attestation::time::Timestamp;

/// How a document is judged.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// Time to verify at, as in 2026-11-23T12:00:00Z [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = timestamp)]
    pub at: Option<Timestamp>,
    /// Root certificate, PEM [default: root G1 of AWS Nitro, pinned]
    #[arg(long, value_name = "PEM", value_hint = ValueHint::FilePath)]
    pub root: Option<PathBuf>,
    /// What the document must say, TOML: measurements, nonce and more (docs/policy.md)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub expect: Option<PathBuf>,
    /// Take documents of enclaves in debug mode too, whose memory the host can read
    #[arg(long)]
    pub danger_accept_debug_enclaves: bool,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The attestation document, as it came; - for standard input
    #[arg(value_name = "DOCUMENT", value_hint = ValueHint::FilePath)]
    pub document: PathBuf,
    /// How it is judged.
    #[command(flatten)]
    pub judge: JudgeArgs,
}

/// `attest`.
#[derive(Debug, Args)]
pub struct AttestArgs {
    /// Nonce the document must carry, hexadecimal [default: 32 random bytes]
    #[arg(long, value_name = "HEX", value_parser = hexadecimal)]
    pub nonce: Option<Bytes>,
    /// New file for the document
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// How it is judged.
    #[command(flatten)]
    pub judge: JudgeArgs,
}

/// Bytes given in hexadecimal.
#[derive(Clone, Debug)]
pub struct Bytes(pub Vec<u8>);

/// `policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Key policies of AWS KMS
    #[command(subcommand)]
    Aws(PolicyAwsCommand),
    /// Release policies of Azure Key Vault
    #[command(subcommand)]
    Azure(PolicyAzureCommand),
}

/// `policy azure`.
#[derive(Debug, Subcommand)]
pub enum PolicyAzureCommand {
    /// Write a release policy out for Key Vault
    Show(PolicyAzureShowArgs),
    /// Report every way for another machine in a release policy of Key Vault
    ///
    /// Exit status: 0 clean, 1 findings, 2 the policy cannot be read.
    Lint(PolicyAzureLintArgs),
    /// Compare a key's release policy with the one it should have been written from
    ///
    /// Exit status: 0 the same, 1 differences, 2 a policy cannot be read.
    Diff(PolicyAzureDiffArgs),
}

/// `policy azure show`.
#[derive(Debug, Args)]
pub struct PolicyAzureShowArgs {
    /// The release policy, with its azure section (docs/policy.md)
    #[arg(value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
}

/// `policy azure lint`.
#[derive(Debug, Args)]
pub struct PolicyAzureLintArgs {
    /// JSON file, or - for standard input: a policy, Key Vault's answer about a key, or what `az keyvault key show` prints
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
}

/// `policy azure diff`.
#[derive(Debug, Args)]
pub struct PolicyAzureDiffArgs {
    /// The release policy
    #[arg(value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub written: PathBuf,
    /// JSON file, or - for standard input: a policy, Key Vault's answer about a key, or what `az keyvault key show` prints
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub live: PathBuf,
}

/// `policy aws`.
#[derive(Debug, Subcommand)]
pub enum PolicyAwsCommand {
    /// Write a release policy out as an AWS key policy, or as IAM statements
    Show(PolicyShowArgs),
    /// Report every way around attestation in a key policy
    ///
    /// Exit status: 0 clean, 1 findings, 2 the policy cannot be read.
    Lint(PolicyLintArgs),
    /// Compare a key policy with the release policy it should have been written from
    ///
    /// Exit status: 0 the same, 1 differences, 2 a policy cannot be read.
    Diff(PolicyDiffArgs),
}

/// `policy aws show`.
#[derive(Debug, Args)]
pub struct PolicyShowArgs {
    /// The release policy (docs/policy.md)
    #[arg(value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
    /// Write IAM statements for these keys instead: callers of other accounts than the key's need them
    #[arg(long, value_name = "KEY-ARN")]
    pub iam: Vec<String>,
    /// Add an enclave image to the policy's generations: its measurements.json, as the build or nitro-cli printed it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub measurements: Vec<PathBuf>,
    /// Let these images run only on a parent instance with this role (PCR3)
    #[arg(long, value_name = "ARN", requires = "measurements")]
    pub parent_role: Option<String>,
    /// Let these images run only on this parent instance (PCR4)
    #[arg(long, value_name = "INSTANCE-ID", requires = "measurements")]
    pub parent_id: Option<String>,
}

/// `policy aws lint`.
#[derive(Debug, Args)]
pub struct PolicyLintArgs {
    /// Key policy (JSON file, or - for standard input), or the ARN of a key, whose live policy is asked for
    #[arg(value_name = "FILE|KEY-ARN", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
}

/// `policy aws diff`.
#[derive(Debug, Args)]
pub struct PolicyDiffArgs {
    /// The release policy
    #[arg(value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub written: PathBuf,
    /// Key policy (JSON file, or - for standard input), or the ARN of a key, whose live policy is asked for
    #[arg(value_name = "FILE|KEY-ARN", value_hint = ValueHint::FilePath)]
    pub live: PathBuf,
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text)
        .ok_or_else(|| "expected a time as in 2026-11-23T12:00:00Z".to_owned())
}

fn hexadecimal(text: &str) -> Result<Bytes, String> {
    let bytes = nodeseal_attestation::hex::decode(text).map(Bytes);
    bytes.ok_or_else(|| "expected hexadecimal digits, two for each byte".to_owned())
}
