//! What goes along with the requests of one batch, completed when a lock is met that needs it, and renewed when it was
//! refused.
//!
//! Credentials are asked for, and the way out is opened, only once a key of a key service turns up; it is shut when the
//! batch is over.

use std::collections::BTreeSet;
use std::time::Duration;

use nodeseal_wire::lock::LockSpec;
use nodeseal_wire::message::{Context, DataKeySource, Refusal};
use tokio::time::Instant;

use crate::aws::{self, kms_keys, region_of};
use crate::azure;
use crate::config::{Address, Config};
use crate::egress::{EgressSettings, Hosts, Proxy, Target};
use crate::report::warn;

/// What a refusal is called whose vault was too busy.
const THROTTLED: &str = "azure-throttled";
/// Longest pause before a busy vault is asked again; the trusted side has waited already.
const PAUSE: Duration = Duration::from_secs(5);

/// Supplies of one batch.
pub struct Supplies {
    context: Context,
    egress: EgressSettings,
    trusted: Address,
    identities: Vec<azure::Identity>,
    amd_certification: String,
    proxy: Option<Proxy>,
    /// Keys of AWS KMS met so far.
    keys: BTreeSet<String>,
    /// Hosts of Azure met so far.
    hosts: BTreeSet<azure::Host>,
    /// Region of the first key.
    region: String,
    /// Whether credentials were renewed: once.
    renewed: bool,
    /// Until when a busy key service is asked again.
    patience: Instant,
}

/// Keys that new ways name, separated by spaces.
#[must_use]
pub fn named_by(data_key: &DataKeySource) -> String {
    let DataKeySource::New(ways) = data_key else {
        return String::new();
    };
    let mut named = Vec::new();
    for lock in ways.iter().flat_map(|way| &way.locks) {
        match lock {
            LockSpec::Tpm => {}
            LockSpec::AwsKms { key, .. } | LockSpec::AzureUnwrap { key } => {
                named.push(key.as_str())
            }
            // Sealing needs the key's public half only: the attestation service is not asked.
            LockSpec::AzureRelease { key, .. } => named.push(key),
        }
    }
    named.join(" ")
}

impl Supplies {
    /// `context` is what every request gets; the rest comes when it is needed.
    #[must_use]
    pub fn new(context: Context, config: &Config) -> Self {
        Self {
            context,
            egress: config.egress.clone(),
            trusted: config.trusted.address.clone(),
            identities: config.identities.clone(),
            amd_certification: config.amd_certification.clone(),
            proxy: None,
            keys: BTreeSet::new(),
            hosts: BTreeSet::new(),
            region: String::new(),
            renewed: false,
            patience: Instant::now() + config.trusted.patience,
        }
    }

    /// Moves what there is so far into the first request.
    pub fn take(&mut self) -> Context {
        std::mem::take(&mut self.context)
    }

    /// Completes the `context` of a request in which `bytes` (blobs, or ids of keys) go along.
    ///
    /// What cannot be had is told as a warning only: another way may open without it, and if none does, the trusted
    /// side says what it missed.
    pub async fn complete(&mut self, context: &mut Context, bytes: &[u8]) {
        let new_keys = kms_keys(bytes).filter(|key| !self.keys.contains(*key));
        let new_keys: BTreeSet<String> = new_keys.map(str::to_owned).collect();
        let new_hosts = azure::hosts(bytes).filter(|host| !self.hosts.contains(host));
        let new_hosts: BTreeSet<azure::Host> = new_hosts.collect();
        if new_keys.is_empty() && new_hosts.is_empty() {
            return;
        }
        let first_key = self.keys.is_empty() && !new_keys.is_empty();
        self.keys.extend(new_keys);
        self.hosts.extend(new_hosts.iter().cloned());
        self.open_way_out(context);
        if first_key {
            let first = self.keys.first().and_then(|key| region_of(key));
            self.region = first.unwrap_or_default().to_owned();
            self.get_credentials(context).await;
        }
        for host in &new_hosts {
            match host {
                azure::Host::Vault(vault) => {
                    self.get_token(context, vault).await;
                }
                azure::Host::Attestation(_) if context.azure.vcek_chain.is_none() => {
                    match azure::vcek_chain(&self.amd_certification).await {
                        Ok(chain) => context.azure.vcek_chain = chain,
                        Err(error) => warn(&format!("warning: {error}")),
                    }
                }
                azure::Host::Attestation(_) => {}
            }
        }
    }

    fn open_way_out(&mut self, context: &mut Context) {
        let kms = self.keys.iter().filter_map(|key| Target::of_kms_key(key));
        let azure = self.hosts.iter().filter_map(azure::Host::target);
        let hosts = Hosts::new(&self.egress, kms.chain(azure));
        match &self.proxy {
            Some(proxy) => proxy.allow(hosts),
            None => match Proxy::start(&self.egress, &self.trusted, hosts) {
                Ok(proxy) => {
                    context.egress = Some(proxy.address().to_owned());
                    self.proxy = Some(proxy);
                }
                Err(error) => warn(&format!("warning: {error}")),
            },
        }
    }

    async fn get_credentials(&self, context: &mut Context) -> bool {
        match aws::credentials(&self.region).await {
            Ok(found) => {
                context.aws = Some(found);
                true
            }
            Err(error) => {
                warn(&format!("warning: {error}"));
                false
            }
        }
    }

    async fn get_token(&self, context: &mut Context, vault: &str) -> bool {
        match azure::token(vault, &self.identities).await {
            Ok(token) => {
                context.azure.tokens.retain(|other| other.vault != vault);
                context.azure.tokens.push(token);
                true
            }
            Err(error) => {
                warn(&format!("warning: {error}"));
                false
            }
        }
    }

    /// Tells refusals against which [`Supplies::cure`] may help.
    pub fn curable_now(&self) -> impl Fn(&Refusal) -> bool + use<> {
        let (renewed, patient) = (self.renewed, Instant::now() < self.patience);
        move |refusal| match said(refusal, THROTTLED) {
            true => patient,
            false => {
                !renewed && (aws::credentials_expired(refusal) || azure::token_refused(refusal))
            }
        }
    }

    /// Renews what was refused for its age, once, or waits for a key service that is too busy; gives whether asking
    /// again makes sense.
    pub async fn cure(&mut self, context: &mut Context, refusals: &[&Refusal]) -> bool {
        if refusals.iter().any(|refusal| said(refusal, THROTTLED)) {
            let left = self.patience.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let pause = PAUSE.mul_f64(random_part());
            warn(&format!(
                "the vault is busy: asking again, for at most {} s more (docs/azure.md, \"A fleet\")",
                left.as_secs()
            ));
            tokio::time::sleep(pause.min(left)).await;
            return true;
        }
        self.renewed = true;
        let mut cured = false;
        if refusals
            .iter()
            .any(|refusal| aws::credentials_expired(refusal))
        {
            cured |= self.get_credentials(context).await;
        }
        if refusals.iter().any(|refusal| azure::token_refused(refusal)) {
            for host in &self.hosts {
                if let azure::Host::Vault(vault) = host {
                    cured |= self.get_token(context, vault).await;
                }
            }
        }
        cured
    }
}

/// Whether a refusal has this code; where several ways failed, each is told in the message with its own.
#[must_use]
pub fn said(refusal: &Refusal, code: &str) -> bool {
    refusal.code == code
        || (refusal.code == "no-way-opened" && refusal.message.contains(&format!("({code})")))
}

fn random_part() -> f64 {
    let mut random = [0; 2];
    // Without randomness it is all of it.
    match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX),
        Err(_) => 1.0,
    }
}
