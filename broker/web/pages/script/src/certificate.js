// What proves that a key is dead, or that it works again: said in plain words, and given as a file.

import { el, keepFile, when } from "./dom.js";
import { pieces, say } from "./words.js";

// What upstream last said of a key; null if nothing is stated.
export function stated({ state, certificate }, names) {
  if (!certificate) return null;
  const times = { ...names, refused: when(certificate.refused_at), accepted: when(certificate.answered_at) };
  if (state === "revived") return pieces("certificate.revived", times);
  return [...pieces("certificate.dead", times), " ", say(`certificate.${certificate.kept ? "kept" : "destroyed"}`, names)];
}

// The button that fetches the file, and what it says meanwhile.
export function download({ last4, certificate }, holder) {
  if (!certificate) return null;
  const said = el("span", { role: "status", className: "said" });
  const fetched = async () => {
    said.textContent = say("certificate.fetching");
    try {
      // As the service wrote it, byte for byte.
      const text = `${JSON.stringify(await holder.call("certificate", { version: certificate.version }), null, 1)}\n`;
      keepFile(say("certificate.file_name", { last4 }), text, "application/json");
      said.textContent = "";
    } catch {
      said.textContent = say("certificate.failed");
    }
  };
  return [el("button", { type: "button", className: "quiet", onclick: fetched }, say("certificate.download")), said];
}
