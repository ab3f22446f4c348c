// Makes tests/golden/jwt.json: tokens as npm's jose signs them, and every attack of RFC 8725 on
// them, each with what is to come of it. Private keys are thrown away.
//   mkdir -p build/jwt && cd build/jwt && npm install jose && cp ../../tests/golden/make/jwt.mjs . && node jwt.mjs > ../../tests/golden/jwt.json
import * as jose from "jose";
import crypto from "node:crypto";

const now = 1790000000; // every check runs at this second
const iss = "https://idp.example.com/";
const b64 = (v) => Buffer.from(v).toString("base64url");
const json = (v) => b64(JSON.stringify(v));

const algs = { RS256: 2048, RS384: 2048, RS512: 3072, ES256: 0, ES384: 0, EdDSA: 0 };
const pairs = {};
for (const [alg, bits] of Object.entries(algs)) {
  pairs[alg] = await jose.generateKeyPair(alg, { modulusLength: bits || undefined, extractable: true });
}
const other = await jose.generateKeyPair("ES256", { extractable: true });
const weak = crypto.generateKeyPairSync("rsa", { modulusLength: 1024 });
const p521 = crypto.generateKeyPairSync("ec", { namedCurve: "P-521" });

const keys = [];
for (const [alg, pair] of Object.entries(pairs)) {
  keys.push({ ...(await jose.exportJWK(pair.publicKey)), kid: "k-" + alg, alg, use: "sig" });
}
const rsaPem = await jose.exportSPKI(pairs.RS256.publicKey);
const weakJwk = { ...weak.publicKey.export({ format: "jwk" }), kid: "weak", use: "sig" };
const p521Jwk = { ...p521.publicKey.export({ format: "jwk" }), kid: "p521", use: "sig" };
const point = { ...keys.find((k) => k.alg === "ES256"), kid: "off-curve", y: b64(crypto.randomBytes(32)) };
const e1 = { ...keys.find((k) => k.alg === "RS256"), kid: "e1", e: "AQ" };

const good = { iss, aud: "bud", sub: "ada", exp: now + 600, nbf: now - 10, iat: now - 10 };
const cases = [];
const add = (name, expect, token) => cases.push({ name, expect, token });
const head = (alg, more) => ({ alg, kid: "k-" + alg, ...more });

// Signs whatever head and claims are given, as text, so that they may be malformed.
function raw(alg, headText, claimsText, key) {
  const signed = b64(headText) + "." + b64(claimsText);
  const k = key ?? crypto.KeyObject.from(pairs[alg].privateKey);
  const hash = alg === "EdDSA" ? null : "sha" + alg.slice(2);
  const sig = crypto.sign(hash, Buffer.from(signed), { key: k, dsaEncoding: "ieee-p1363" });
  return signed + "." + b64(sig);
}
const es = (claims, more) => raw("ES256", JSON.stringify(head("ES256", more)), JSON.stringify(claims));
const hs = (alg, secret, h) => {
  const signed = json({ ...h, alg }) + "." + json(good);
  return signed + "." + b64(crypto.createHmac("sha" + alg.slice(2), secret).update(signed).digest());
};

for (const alg of Object.keys(algs)) {
  const jwt = new jose.SignJWT(good).setProtectedHeader(head(alg));
  add("good " + alg, "ok", await jwt.sign(pairs[alg].privateKey));
}
add("aud in a list", "ok", es({ ...good, aud: ["x", "bud"] }));
add("typ at+jwt", "ok", es(good, { typ: "at+jwt" }));
add("typ application/at+jwt", "ok", es(good, { typ: "application/AT+JWT" }));
add("no kid, one such key", "ok", raw("ES256", '{"alg":"ES256"}', JSON.stringify(good)));
add("expired within the leeway", "ok", es({ ...good, exp: now - 59 }));
add("fractions of seconds", "ok", es({ ...good, exp: now + 0.5, nbf: now - 0.5 }));
add("x5t and unknown members", "ok", es({ ...good, more: { deep: [1] } }, { x5t: "AAAA", foo: 1 }));

const es256 = es(good);
const [h0, c0, s0] = es256.split(".");
const sig = Buffer.from(s0, "base64url");
add("alg none, no signature", "malformed", json({ alg: "none" }) + "." + json(good) + ".");
add("alg none, a signature", "algorithm", json({ alg: "none" }) + "." + json(good) + "." + s0);
add("alg nOnE", "algorithm", json({ alg: "nOnE" }) + "." + json(good) + "." + s0);
add("alg empty", "algorithm", json({ alg: "" }) + "." + json(good) + "." + s0);
add("alg a list", "algorithm", json({ alg: ["ES256"] }) + "." + json(good) + "." + s0);
add("alg absent", "algorithm", json({ kid: "k-ES256" }) + "." + json(good) + "." + s0);
add("alg es256", "algorithm", json({ alg: "es256", kid: "k-ES256" }) + "." + json(good) + "." + s0);
add("signature stripped", "malformed", h0 + "." + c0 + ".");
add("two parts", "malformed", h0 + "." + c0);
add("four parts", "malformed", es256 + "." + s0);
add("five parts", "malformed", es256 + "..");
add("HS256 with the PEM of the RSA key", "algorithm", hs("HS256", rsaPem, { kid: "k-RS256" }));
add("HS256 with the JWK", "algorithm", hs("HS256", JSON.stringify(keys[0]), { kid: "k-RS256" }));
add("HS512 with an empty secret", "algorithm", hs("HS512", "", {}));
add("PS256", "algorithm", await new jose.SignJWT(good).setProtectedHeader({ alg: "PS256", kid: "k-RS256" })
  .sign(await jose.importPKCS8(await jose.exportPKCS8(pairs.RS256.privateKey), "PS256")));
add("RS256 named, the EC key's kid", "key", raw("RS256", '{"alg":"RS256","kid":"k-ES256"}', JSON.stringify(good)));
add("ES256 named, the RSA key's kid", "key", raw("ES256", '{"alg":"ES256","kid":"k-RS256"}', JSON.stringify(good)));
add("RS256 named, the key is for RS384", "key", raw("RS256", '{"alg":"RS256","kid":"k-RS384"}', JSON.stringify(good)));
add("unknown kid", "key", raw("ES256", '{"alg":"ES256","kid":"nobody"}', JSON.stringify(good)));
add("kid a path", "key", raw("ES256", '{"alg":"ES256","kid":"../../dev/null"}', JSON.stringify(good)));
add("kid with SQL", "key", raw("ES256", `{"alg":"ES256","kid":"x' UNION SELECT 'a"}`, JSON.stringify(good)));
add("kid a number", "key", raw("ES256", '{"alg":"ES256","kid":1}', JSON.stringify(good)));
add("kid very long", "key", raw("ES256", `{"alg":"ES256","kid":"${"k".repeat(500)}"}`, JSON.stringify(good)));
add("kid with a NUL", "key", raw("ES256", '{"alg":"ES256","kid":"k-ES256\\u0000"}', JSON.stringify(good)));
add("another's key", "signature", raw("ES256", JSON.stringify(head("ES256")), JSON.stringify(good), crypto.KeyObject.from(other.privateKey)));
for (const [name, value] of Object.entries({
  jwk: await jose.exportJWK(other.publicKey), jku: "https://evil.example/jwks", x5u: "https://evil.example/x",
  x5c: ["AAAA"], crit: ["exp"], zip: "DEF", b64: false, enc: "A128GCM", cty: "JWT" })) {
  add("header brings " + name, "header",
    raw("ES256", JSON.stringify(head("ES256", { [name]: value })), JSON.stringify(good), crypto.KeyObject.from(other.privateKey)));
}
add("a well-signed crit", "header", es(good, { crit: [], }));
add("typ of another use", "header", es(good, { typ: "logout+jwt" }));
add("typ a number", "header", es(good, { typ: 1 }));
add("claims changed", "signature", h0 + "." + json({ ...good, sub: "eve" }) + "." + s0);
add("header changed", "signature", json(head("ES256", { typ: "JWT" })) + "." + c0 + "." + s0);
add("signature of zeros", "signature", h0 + "." + c0 + "." + b64(Buffer.alloc(64)));
add("r zero", "signature", h0 + "." + c0 + "." + b64(Buffer.concat([Buffer.alloc(32), sig.subarray(32)])));
add("r the group's order", "signature", h0 + "." + c0 + "." + b64(Buffer.concat([
  Buffer.from("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", "hex"), sig.subarray(32)])));
add("signature one byte short", "signature", h0 + "." + c0 + "." + b64(sig.subarray(0, 63)));
add("signature one byte long", "signature", h0 + "." + c0 + "." + b64(Buffer.concat([sig, Buffer.alloc(1)])));
add("signature in DER", "signature", h0 + "." + c0 + "." + b64(crypto.sign("sha256", Buffer.from(h0 + "." + c0), crypto.KeyObject.from(pairs.ES256.privateKey))));
add("ES384 signature on P-256 bytes", "signature", raw("ES384", JSON.stringify(head("ES384")), JSON.stringify(good)).replace(/\.[^.]*$/, "." + s0));
const rs = raw("RS256", JSON.stringify(head("RS256")), JSON.stringify(good)).split(".");
add("RSA signature cut", "signature", rs[0] + "." + rs[1] + "." + b64(Buffer.from(rs[2], "base64url").subarray(0, 255)));
add("an encrypted token", "header", json({ alg: "RSA-OAEP", enc: "A128GCM" }) + ".AAAA.AAAA.AAAA.AAAA");

add("padding", "malformed", es256 + "=");
add("padding in the header", "malformed", h0 + "=." + c0 + "." + s0);
add("base64 of the other alphabet", "malformed", h0 + "." + c0 + "." + s0.slice(0, -2) + "+/");
add("white space", "malformed", h0 + ". " + c0 + "." + s0);
add("a bit behind the last byte", "malformed", h0 + "." + c0 + "." + s0.slice(0, -1) + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[
  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".indexOf(s0.at(-1)) ^ 1]);
add("alg twice", "malformed", raw("ES256", '{"alg":"none","alg":"ES256","kid":"k-ES256"}', JSON.stringify(good)));
add("exp twice", "malformed", raw("ES256", JSON.stringify(head("ES256")), JSON.stringify(good).replace("{", `{"exp":${now - 999},`)));
add("sub twice, escaped", "malformed", raw("ES256", JSON.stringify(head("ES256")), JSON.stringify(good).replace("{", '{"s\\u0075b":"eve",')));
add("header no object", "malformed", raw("ES256", '"ES256"', JSON.stringify(good)));
add("claims no object", "malformed", raw("ES256", JSON.stringify(head("ES256")), "[1]"));
add("claims no JSON", "malformed", raw("ES256", JSON.stringify(head("ES256")), "iss=me"));
add("claims in UTF-16", "malformed", raw("ES256", JSON.stringify(head("ES256")), Buffer.from(JSON.stringify(good), "utf16le")));
add("deep claims", "malformed", raw("ES256", JSON.stringify(head("ES256")), JSON.stringify(good).replace("}", ',"x":' + "[".repeat(200) + "]".repeat(200) + "}")));
add("over 8 KiB", "too_large", es({ ...good, pad: "x".repeat(8192) }));

add("expired", "expired", es({ ...good, exp: now - 60 }));
add("exp absent", "claims", es({ ...good, exp: undefined }));
add("exp a text", "claims", es({ ...good, exp: String(now + 600) }));
add("exp negative", "claims", es({ ...good, exp: -1 }));
add("exp beyond all time", "claims", raw("ES256", JSON.stringify(head("ES256")), JSON.stringify(good).replace(String(now + 600), "1e300")));
add("nbf ahead", "not_yet", es({ ...good, nbf: now + 120 }));
add("iat ahead", "not_yet", es({ ...good, iat: now + 120 }));
add("iss absent", "issuer", es({ ...good, iss: undefined }));
add("iss another", "issuer", es({ ...good, iss: "https://idp.example.com" }));
add("iss a list", "issuer", es({ ...good, iss: [iss] }));
add("aud another", "audience", es({ ...good, aud: "other" }));
add("aud absent", "audience", es({ ...good, aud: undefined }));
add("aud an empty list", "audience", es({ ...good, aud: [] }));
add("aud in an object", "audience", es({ ...good, aud: { bud: 1 } }));
add("aud nearly", "audience", es({ ...good, aud: "bud " }));
add("sub absent", "claims", es({ ...good, sub: undefined }));
add("sub empty", "claims", es({ ...good, sub: "" }));
add("sub with a line break", "claims", es({ ...good, sub: "ada\nadmin" }));

const pins = { name: "ES256 where RS256 alone is pinned", expect: "algorithm", token: es256 };
console.log(JSON.stringify({ made_by: "jose " + (await import("jose/package.json", { with: { type: "json" } }).then((m) => m.default.version, () => "6")),
  now, issuer: iss, audience: "bud", jwks: { keys }, rsa_pem: rsaPem,
  ec_pem: await jose.exportSPKI(pairs.ES256.publicKey), refused_keys: { weak: weakJwk, p521: p521Jwk, off_curve: point, e1,
    symmetric: { kty: "oct", k: b64(rsaPem), kid: "oct", alg: "HS256" },
    encryption: { ...keys[3], use: "enc" }, wrong_alg: { ...keys[3], alg: "ES384" } }, pins, cases }, null, 1));
