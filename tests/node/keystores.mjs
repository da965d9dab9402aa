// Keystore files made and opened by the tools of their formats: geth's Web3 Secret Storage v3 by @ethereumjs/wallet,
// the validators' EIP-2335 by @chainsafe/bls-keystore.
//
//   node keystores.mjs make DIRECTORY    a geth and a Lighthouse data directory with one fresh key each
//   node keystores.mjs check DIRECTORY   opens both with their passwords
//
// Both print {"address": ..., "pubkey": ...} as derived from the private keys. The Lighthouse layout is
// validators/0xPUBKEY/voting-keystore.json with the password in secrets/0xPUBKEY.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import * as bls from '@chainsafe/bls-keystore';
import { Wallet } from '@ethereumjs/wallet';
import { bls12_381 } from '@noble/curves/bls12-381';

const [action, directory] = process.argv.slice(2);
const geth = join(directory, 'geth');
const validators = join(directory, 'lighthouse/validators');
const secrets = join(directory, 'lighthouse/secrets');
const password = () => randomBytes(18).toString('base64url');
const pubkey = (secret) => `0x${Buffer.from(bls12_381.getPublicKey(secret)).toString('hex')}`;

async function make() {
  mkdirSync(join(geth, 'keystore'), { recursive: true });
  const wallet = Wallet.generate();
  const gethPassword = password();
  writeFileSync(join(geth, 'password.txt'), `${gethPassword}\n`);
  const name = wallet.getV3Filename(Date.now());
  writeFileSync(join(geth, 'keystore', name), await wallet.toV3String(gethPassword));

  const secret = bls12_381.utils.randomPrivateKey();
  const key = pubkey(secret);
  const validatorPassword = password();
  const point = Buffer.from(key.slice(2), 'hex');
  const keystore = await bls.create(validatorPassword, secret, point, 'm/12381/3600/0/0/0');
  mkdirSync(join(validators, key), { recursive: true });
  mkdirSync(secrets, { recursive: true });
  writeFileSync(join(validators, key, 'voting-keystore.json'), JSON.stringify(keystore));
  writeFileSync(join(secrets, key), validatorPassword);
  return { address: wallet.getAddressString(), pubkey: key };
}

async function check() {
  const [name] = readdirSync(join(geth, 'keystore'));
  const gethPassword = readFileSync(join(geth, 'password.txt'), 'utf8').trim();
  const wallet = await Wallet.fromV3(readFileSync(join(geth, 'keystore', name), 'utf8'), gethPassword);

  const [key] = readdirSync(validators);
  const keystore = JSON.parse(readFileSync(join(validators, key, 'voting-keystore.json'), 'utf8'));
  const secret = await bls.decrypt(keystore, readFileSync(join(secrets, key), 'utf8'));
  return { address: wallet.getAddressString(), pubkey: pubkey(secret) };
}

console.log(JSON.stringify(action === 'make' ? await make() : await check()));
