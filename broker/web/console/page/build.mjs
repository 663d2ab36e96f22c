// Bundle the page's one script: reproducible, minified, with the licences of what it contains.

import { readFileSync } from "node:fs";
import { build } from "esbuild";

const PACKAGES = ["@hpke/core", "@hpke/common", "@hpke/hybridkem-x-wing", "@hpke/dhkem-x25519", "mlkem"];

function notice(name) {
  const { version, license } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"));
  const holder = /Copyright.*/i.exec(readFileSync(`node_modules/${name}/LICENSE`, "utf8"))[0].trim();
  return ` * ${name} ${version} (${license}): ${holder}`;
}

await build({
  entryPoints: ["src/main.js"],
  outfile: "../static/intake.js",
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  external: ["node:crypto", "crypto"],
  banner: { js: ["/*!", " * Built from broker/web/console/page with `make page`. Contains:", ...PACKAGES.map(notice), " */"].join("\n") },
});
