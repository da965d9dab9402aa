//! What goes along with the requests of one batch, completed when a lock is met that needs it.
//!
//! Credentials are asked for, and the way out is opened, only once a key of AWS KMS turns up; it is shut when the batch
//! is over.

use std::collections::BTreeSet;

use nodeseal_wire::message::{AwsCredentials, Context};

use crate::aws::{AwsError, credentials, kms_keys, region_of};
use crate::config::Address;
use crate::egress::{EgressSettings, Hosts, Proxy};
use crate::report::warn;

/// Supplies of one batch.
pub struct Supplies {
    context: Context,
    egress: EgressSettings,
    trusted: Address,
    proxy: Option<Proxy>,
    /// KMS keys met so far.
    keys: BTreeSet<String>,
    /// Region of the first of them.
    region: String,
}

impl Supplies {
    /// `context` is what every request gets; the rest comes when it is needed.
    #[must_use]
    pub fn new(context: Context, egress: &EgressSettings, trusted: &Address) -> Self {
        Self {
            context,
            egress: egress.clone(),
            trusted: trusted.clone(),
            proxy: None,
            keys: BTreeSet::new(),
            region: String::new(),
        }
    }

    /// Moves what there is so far into the first request.
    pub fn take(&mut self) -> Context {
        std::mem::take(&mut self.context)
    }

    /// Completes the `context` of a request in which `bytes` (blobs, or ARNs) go along.
    ///
    /// What cannot be had is told as a warning only: another way may open without it, and if none does, the trusted
    /// side says what it missed.
    pub async fn complete(&mut self, context: &mut Context, bytes: &[u8]) {
        let before = self.keys.len();
        for key in kms_keys(bytes) {
            if !self.keys.contains(key) {
                self.keys.insert(key.to_owned());
            }
        }
        if self.keys.len() == before {
            return;
        }
        let hosts = Hosts::new(&self.egress, self.keys.iter().map(String::as_str));
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
        if before == 0 {
            let first = self.keys.first().and_then(|key| region_of(key));
            self.region = first.unwrap_or_default().to_owned();
            match credentials(&self.region).await {
                Ok(found) => context.aws = Some(found),
                Err(error) => warn(&format!("warning: {error}")),
            }
        }
    }

    /// Newer credentials, after KMS found those of this batch too old.
    ///
    /// # Errors
    /// When there are none any more.
    pub async fn renewed(&self) -> Result<AwsCredentials, AwsError> {
        credentials(&self.region).await
    }
}
