// Who one is, with a button to log out; and the way to the login when a session has ended.

import { byId, element } from "./common.js";

/** Ask who one is; null if the service does not answer. */
async function whoAmI() {
  try {
    const answer = await fetch("/accounts/me.json", { cache: "no-store" });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/** Go to the login if the session has ended. */
async function checkSession() {
  const me = await whoAmI();
  if (me && me.name === null) {
    const here = location.pathname + location.search + location.hash;
    location.assign(`/accounts/login/?next=${encodeURIComponent(here)}`);
  }
}

async function show() {
  const me = await whoAmI();
  const header = document.querySelector("header");
  if (!me || me.name === null || me.way === "kernel" || !header || byId("account")) return;
  const box = element("span", { id: "account", className: "account" }, `${me.name} (${me.role})`);
  if (me.way === "cookie") {
    const form = element("form", { method: "post", action: "/accounts/logout/" });
    form.append(element("button", { text: "Log out" }));
    box.append(" ", form);
  }
  header.append(box);
}

document.addEventListener("stream-lost", checkSession);
show();
