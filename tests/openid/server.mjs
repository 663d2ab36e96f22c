// An OpenID provider on a free port of this machine.  Its one argument is the broker's address.
import { createServer } from "node:http";
import Provider from "oidc-provider";

const broker = process.argv[2];
const people = { olga: ["group-of-operators"], mallory: [] };
const gone = new Set();

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "keybroker",
        client_secret: "the secret of our client",
        redirect_uris: [`${broker}/login/callback`],
        post_logout_redirect_uris: [`${broker}/login`],
        grant_types: ["authorization_code", "refresh_token"],
        backchannel_logout_uri: `${broker}/logout/backchannel`,
        backchannel_logout_session_required: true,
        require_auth_time: true,
      },
    ],
    claims: { openid: ["sub", "groups"], profile: ["preferred_username"] },
    conformIdTokenClaims: false,
    features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: true } },
    pkce: { required: () => true },
    // It calls no address of this machine otherwise.
    fetch: (url, { dispatcher: _, ...options }) => fetch(url, options),
    cookies: { keys: ["of a test"] },
    findAccount: (_, id) =>
      gone.has(id) ? undefined : { accountId: id, claims: () => ({ sub: id, groups: people[id] ?? [], preferred_username: id }) },
  });
  provider.on("backchannel.error", (_, error) => console.error("back-channel logout failed:", error.message, error.cause));
  const answer = provider.callback();
  server.on("request", (request, response) => {
    // What whoever runs the provider does: give somebody other groups, or lock them out.
    const [, control, who, groups] = request.url.split("/");
    if (control !== "control") return answer(request, response);
    if (groups === "gone") gone.add(who);
    else people[who] = groups.split(",").filter(Boolean);
    response.end();
  });
  console.log(issuer);
});
