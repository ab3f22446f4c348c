// An OpenID provider on loopback that gives access tokens for the audience "bud" to its one client:
//   node idp.mjs PORT   prints "ready" when it listens
import Provider from "oidc-provider";
import * as jose from "jose";

const port = Number(process.argv[2]);
const { privateKey } = await jose.generateKeyPair("ES256", { extractable: true });
const key = { ...(await jose.exportJWK(privateKey)), kid: "k1", alg: "ES256", use: "sig" };
const resource = {
  scope: "chat", audience: "bud", accessTokenFormat: "jwt", accessTokenTTL: 300, jwt: { sign: { alg: "ES256" } },
};
const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys: [key] },
  clients: [{ client_id: "robot", client_secret: "s".repeat(32), grant_types: ["client_credentials"],
    redirect_uris: [], response_types: [], id_token_signed_response_alg: "ES256" }],
  scopes: ["chat"],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: { enabled: true, defaultResource: () => "urn:bud", getResourceServerInfo: () => resource,
      useGrantedResource: () => true },
  },
});
provider.listen(port, "127.0.0.1", () => console.log("ready"));
