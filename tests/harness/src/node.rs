//! The real node: the EthereumJS execution client on a proof-of-authority chain with one signer.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::clique::{signer, unhex};
use crate::{Context, Error, Result, free_ports, javascript_runtime, node_packages, rpc};

/// Where the client and its RPC are, and the chain it is to run.
pub struct Node {
    directory: PathBuf,
    rpc_port: u16,
}

impl Node {
    /// Prepares a chain in `directory` on which `address` ("0x…", hexadecimal) alone may seal blocks, one a second.
    ///
    /// # Errors
    /// When the client is not installed or the directory cannot be written.
    pub fn prepare(directory: &Path, address: &str) -> Result<Self> {
        node_packages()?;
        let genesis = directory.join("genesis.json");
        fs::write(&genesis, genesis_of(address)?.to_string()).context(genesis.display())?;
        Ok(Self {
            directory: directory.to_owned(),
            rpc_port: free_ports(2)?,
        })
    }

    /// The node's command line. `key` is what stands for the file with the signer's key, 64 hexadecimal digits:
    /// a path, or the placeholder `nodeseal run` replaces by one.
    ///
    /// # Errors
    /// When the client is not installed.
    pub fn command(&self, key: &str) -> Result<Vec<OsString>> {
        let client = node_packages()?.join("node_modules/@ethereumjs/client/dist/esm/bin/cli.js");
        let mut words: Vec<OsString> = vec![javascript_runtime()?.into(), client.into()];
        words.extend([
            "--gethGenesis".into(),
            self.directory.join("genesis.json").into(),
        ]);
        words.extend(["--dataDir".into(), self.directory.join("data").into()]);
        let port = self.rpc_port.to_string();
        let peers = (self.rpc_port + 1).to_string();
        words.extend(
            [
                "--mine",
                "--isSingleNode",
                "--logFile=false",
                "--discV4=false",
                "--discDns=false",
            ]
            .into_iter()
            .chain([
                "--maxPeers",
                "0",
                "--port",
                &peers,
                "--rpc",
                "--rpcAddr",
                "127.0.0.1",
            ])
            .chain(["--rpcPort", &port, "--unlock", key])
            .map(OsString::from),
        );
        Ok(words)
    }

    /// Number of the latest block, by `eth_blockNumber`.
    ///
    /// # Errors
    /// When the node does not answer (yet).
    pub fn height(&self) -> Result<u64> {
        let answer = rpc::call(self.rpc_port, "eth_blockNumber", &json!([]))?;
        let digits = answer.as_str().and_then(|text| text.strip_prefix("0x"));
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.ok_or_else(|| Error::new(format!("eth_blockNumber: {answer}")))
    }

    /// Address of the key that sealed block `number`, recovered from the header the node gives out.
    ///
    /// # Errors
    /// When the node does not have the block or its seal is none.
    pub fn signer(&self, number: u64) -> Result<String> {
        let block = format!("{number:#x}");
        let answer = rpc::call(self.rpc_port, "debug_getRawHeader", &json!([block]))?;
        let header = answer
            .as_str()
            .ok_or_else(|| Error::new("debug_getRawHeader: no text"))?;
        signer(&unhex(header)?)
    }

    /// Name and version the node gives of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn version(&self) -> Result<String> {
        let answer = rpc::call(self.rpc_port, "web3_clientVersion", &json!([]))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }
}

/// A genesis block in geth's format: EIP-225 with `address` as the only signer, all forks up to London.
fn genesis_of(address: &str) -> Result<Value> {
    let signer = address.strip_prefix("0x").unwrap_or(address).to_lowercase();
    if unhex(&signer)?.len() != 20 {
        return Err(Error::new(format!("not an Ethereum address: {address}")));
    }
    let zeros = |digits: usize| format!("0x{}", "0".repeat(digits));
    let mut config = json!({"chainId": 20_262, "clique": {"period": 1, "epoch": 30_000}});
    for fork in [
        "homestead",
        "eip150",
        "eip155",
        "eip158",
        "byzantium",
        "constantinople",
        "petersburg",
        "istanbul",
        "berlin",
        "london",
    ] {
        config[format!("{fork}Block")] = json!(0);
    }
    Ok(json!({
        "config": config,
        "nonce": "0x0",
        "timestamp": "0x614b3731",
        "gasLimit": "0x47b760",
        "difficulty": "0x1",
        "mixHash": zeros(64),
        "coinbase": zeros(40),
        "number": "0x0",
        "gasUsed": "0x0",
        "parentHash": zeros(64),
        "baseFeePerGas": "0x7",
        // EIP-225: 32 bytes of vanity, the signers, 65 bytes for a seal the genesis block does not have.
        "extraData": format!("{}{signer}{}", zeros(64), "0".repeat(130)),
        "alloc": {},
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::{Running, short_dir, wait_for};

    #[test]
    fn the_node_seals_blocks_with_the_key_it_is_given() {
        let directory = short_dir().unwrap();
        // secp256k1 private key 1: its address is known the world over.
        let key = directory.path().join("key");
        fs::write(&key, format!("{:064x}", 1)).unwrap();
        let address = "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf";
        let node = Node::prepare(directory.path(), address).unwrap();
        let words = node.command(key.to_str().unwrap()).unwrap();
        let mut command = Command::new(&words[0]);
        // The client leaves its logs in the directory it starts in.
        command.args(&words[1..]).current_dir(directory.path());
        let log = directory.path().join("log");
        let mut running = Running::start("the node", &mut command, &log).unwrap();
        wait_for("two blocks", Duration::from_secs(60), || {
            assert_eq!(running.ended().unwrap(), None, "{}", running.output());
            Ok(node.height().ok().filter(|height| *height >= 2))
        })
        .unwrap();
        assert_eq!(node.signer(1).unwrap(), address);
        assert_eq!(node.signer(2).unwrap(), address);
        assert!(node.version().unwrap().starts_with("EthereumJS/"));
    }
}
