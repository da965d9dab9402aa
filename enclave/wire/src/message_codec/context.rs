//! What goes along with a request because locks may need it.

use super::{list, optional, read_list, text};
use crate::cbor::{DecodeError, Reader, Writer};
use crate::header::MAX_NAME;
use crate::lock::{decode_bank, decode_pcrs};
use crate::message::{AwsCredentials, AzureContext, AzureToken, Context, SignedPolicy};

/// Longest credential, in bytes: session tokens are about 1 KiB, and AWS says they may grow; Entra's are a few KiB.
const MAX_CREDENTIAL: usize = 16384;
/// Most signed policies in one request.
const MAX_POLICIES: usize = 64;
/// Most vaults one request has tokens for.
const MAX_VAULTS: usize = 16;
/// Longest VCEK chain, in bytes: a leaf and two authorities, about 6 KiB.
const MAX_CHAIN: usize = 32768;

pub(super) fn encode_context(w: &mut Writer, context: &Context) {
    w.array(4);
    w.optional(context.aws.as_ref(), |w, aws| {
        w.array(4)
            .text(&aws.access_key_id)
            .text(&aws.secret_access_key);
        w.optional(aws.session_token.as_deref(), Writer::text);
        w.optional(aws.expires, Writer::uint)
    });
    w.optional(context.egress.as_deref(), Writer::text);
    list(w, &context.policies, |w, policy| {
        w.array(4).text(policy.bank.name());
        list(w, &policy.pcrs, |w, pcr| {
            w.uint(u64::from(*pcr));
        });
        w.bytes(&policy.approved).bytes(&policy.signature);
    });
    w.array(2);
    list(w, &context.azure.tokens, |w, token| {
        w.array(3).text(&token.vault).text(&token.token);
        w.uint(token.expires);
    });
    w.optional(context.azure.vcek_chain.as_deref(), Writer::text);
}

pub(super) fn decode_context(r: &mut Reader<'_>) -> Result<Context, DecodeError> {
    r.array("context", 4, 4)?;
    Ok(Context {
        aws: optional(r, |r| {
            r.array("credentials", 4, 4)?;
            Ok(AwsCredentials {
                access_key_id: text(r, "access key id", MAX_CREDENTIAL)?,
                secret_access_key: text(r, "secret access key", MAX_CREDENTIAL)?,
                session_token: optional(r, |r| text(r, "session token", MAX_CREDENTIAL))?,
                expires: optional(r, |r| r.uint("expires", u64::MAX))?,
            })
        })?,
        egress: optional(r, |r| text(r, "egress", MAX_NAME))?,
        policies: read_list(r, "policies", MAX_POLICIES, |r| {
            r.array("signed policy", 4, 4)?;
            Ok(SignedPolicy {
                bank: decode_bank(r)?,
                pcrs: decode_pcrs(r)?,
                approved: r.array_of("approved policy")?,
                signature: r.array_of("policy signature")?,
            })
        })?,
        azure: decode_azure(r)?,
    })
}

fn decode_azure(r: &mut Reader<'_>) -> Result<AzureContext, DecodeError> {
    r.array("azure", 2, 2)?;
    Ok(AzureContext {
        tokens: read_list(r, "tokens", MAX_VAULTS, |r| {
            r.array("token", 3, 3)?;
            Ok(AzureToken {
                vault: text(r, "vault", MAX_NAME)?,
                token: text(r, "access token", MAX_CREDENTIAL)?,
                expires: r.uint("expires", u64::MAX)?,
            })
        })?,
        vcek_chain: optional(r, |r| text(r, "VCEK chain", MAX_CHAIN))?,
    })
}
