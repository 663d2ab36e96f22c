// Bundle the pages' scripts, one for customers and one for who signs in: reproducible, minified; and, whole, the
// licences of all that got into them.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const STATIC = "../static";
const BUNDLE = { entryPoints: ["src/main.js"], bundle: true, minify: true, format: "iife", target: "es2022", charset: "utf8",
  legalComments: "none", external: ["node:crypto", "crypto"] };
const LOGIN = { ...BUNDLE, entryPoints: ["src/login.js"] };

// The files of packages of which anything is left once what nobody calls is gone.
async function bundled() {
  const { metafile } = await build({ ...BUNDLE, metafile: true, write: false, outfile: "measured.js" });
  const inputs = Object.values(metafile.outputs)[0].inputs;
  return Object.keys(inputs).filter((file) => file.startsWith("node_modules/") && inputs[file].bytesInOutput > 0);
}

const packageOf = (file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)[1];

// @hpke/common and mlkem hold copies of files of noble-curves and noble-hashes, and each says so at its head.
const copiedFrom = (file) =>
  [...readFileSync(file, "utf8").matchAll(/\bnoble-(\w+) - MIT License/g)].map(([, name]) => `@noble/${name}`);

function whole(name) {
  const { version, license } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"));
  return { title: `${name} ${version} (${license})`, text: textOf(name) };
}

// No version: what was copied is of a commit between two, and its licence is the same in each.
const partly = (name) => ({ title: `parts of ${name}`, text: textOf(name) });

function textOf(name) {
  const file = readdirSync(`node_modules/${name}`).find((file) => /^licen[sc]e(\.\w+)?$/i.test(file));
  return readFileSync(`node_modules/${name}/${file}`, "utf8").replaceAll("\r\n", "\n").trim();
}

const files = await bundled();
const unique = (names) => [...new Set(names)].sort();
// esbuild puts helpers of its own before what it bundles.
const parts = [...unique(files.map(packageOf)).map(whole), ...unique(files.flatMap(copiedFrom)).map(partly), partly("esbuild")];

// What people sign in with is ours alone, so it has no licences of others but esbuild's.
const ours = await build({ ...LOGIN, metafile: true, write: false, outfile: "measured.js" });
if (Object.keys(ours.metafile.inputs).some((file) => file.startsWith("node_modules/"))) throw new Error("name its licences");

writeFileSync(
  `${STATIC}/licences.txt`,
  `What intake.js contains, built by \`make page\`. Each part is under its licence below.\n` +
    parts.map(({ title, text }) => `\n${"=".repeat(80)}\n${title}\n${"=".repeat(80)}\n\n${text}\n`).join(""),
);
const banner = ["/*!", " * Built from broker/web/pages/script with `make page`. Contains, under the licences in /static/licences.txt:",
  ...parts.map(({ title }) => ` * ${title}`), " */"].join("\n");
await build({ ...BUNDLE, outfile: `${STATIC}/intake.js`, banner: { js: banner } });
await build({ ...LOGIN, outfile: `${STATIC}/login.js`, banner: { js: "/*! Built from broker/web/pages/script with `make page`. */" } });
