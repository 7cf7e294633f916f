// oidc-provider for `cargo xtask e2e connect`: one client, the hub, with its own callback.
import { Provider } from '@LIBRARY@';
const port = Number(process.env.OIDC_PORT);
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  clients: [{ client_id: '@ID@', client_secret: '@SECRET@', redirect_uris: ['@REDIRECT@'], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], token_endpoint_auth_method: 'client_secret_basic' }],
  features: { devInteractions: { enabled: true }, revocation: { enabled: true }, resourceIndicators: { enabled: false } },
  pkce: { required: () => true, methods: ['S256'] },
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  scopes: ['openid', 'offline_access', 'api.read'],
  findAccount: async (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
});
provider.listen(port, '127.0.0.1', () => console.log('oidc-provider', issuer));
