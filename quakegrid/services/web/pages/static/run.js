// Runs a calculation of files that are dropped or chosen: one archive, many files, or a folder.

import { byId, element, megabytes } from "/static/common.js";

let files = [];
const asked = new URLSearchParams(location.search);

const words = (text, isBad = false) => {
  byId("run-words").textContent = text;
  byId("run-words").className = isBad ? "failed" : "soft";
};

/** Take files to send: pairs of a relative name and a file. */
function take(found) {
  files = found.filter(([name]) => !name.split("/").some((part) => part.startsWith(".") || part === "__MACOSX"));
  const top = commonFolder(files.map(([name]) => name));
  files = files.map(([name, file]) => [name.slice(top.length), file]);
  const size = files.reduce((sum, [, file]) => sum + file.size, 0);
  const jobFiles = files.map(([name]) => name).filter((name) => name.endsWith(".ini"));
  const isArchive = files.some(([name]) => name.endsWith(".zip")) && files.length === 1;
  byId("job-files").replaceChildren(...jobFiles.map((name) => element("option", { value: name })));
  byId("job-ini").value = preferred(jobFiles);
  byId("job-ini-box").hidden = files.length === 0 || (jobFiles.length < 2 && !isArchive);
  byId("send").disabled = files.length === 0;
  byId("chosen").textContent = files.length === 1 ? `${files[0][0]}, ${megabytes(size / 2 ** 20)}` : `${files.length} files, ${megabytes(size / 2 ** 20)}`;
  if (files.length && !jobFiles.length && !isArchive) words("There is no job file (.ini) among them.", true);
  else words("");
}

/** The folder that all names begin with, since the name of the dropped folder itself says nothing. */
function commonFolder(names) {
  const first = names[0]?.split("/").slice(0, -1) ?? [];
  let count = first.length;
  for (const name of names) {
    const parts = name.split("/").slice(0, -1);
    while (count > 0 && first.slice(0, count).join("/") !== parts.slice(0, count).join("/")) count -= 1;
  }
  return count ? `${first.slice(0, count).join("/")}/` : "";
}

/** Of several job files: that of risk where a calculation continues, else that of hazard. */
function preferred(names) {
  if (names.length < 2) return "";
  const word = asked.get("continue") ? "risk" : "haz";
  return names.find((name) => name.includes(word)) ?? names[0];
}

const ofInput = (input) => [...input.files].map((file) => [file.webkitRelativePath || file.name, file]);

async function ofDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => [file.name, file]);
  return (await Promise.all(entries.map((entry) => ofEntry(entry, "")))).flat();
}

async function ofEntry(entry, folder) {
  if (entry.isFile) return [[folder + entry.name, await new Promise((done, fail) => entry.file(done, fail))]];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map((each) => ofEntry(each, `${folder}${entry.name}/`)))).flat();
}

function send(event) {
  event.preventDefault();
  if (!files.length) return;
  const form = new FormData();
  for (const [name, file] of files) form.append("archive", file, name);
  if (byId("job-ini").value.trim()) form.set("job_ini", byId("job-ini").value.trim());
  if (byId("continue-from").value.trim()) form.set("hazard_job_id", byId("continue-from").value.trim());
  const request = new XMLHttpRequest();
  request.open("POST", "/v1/calc/run");
  request.upload.addEventListener("progress", (sent) => {
    byId("upload").max = sent.total || 1;
    byId("upload").value = sent.loaded;
    words(sent.loaded < sent.total ? `${megabytes(sent.loaded / 2 ** 20)} of ${megabytes(sent.total / 2 ** 20)} sent` : "The engine reads the job file ...");
  });
  request.addEventListener("load", () => answered(request));
  request.addEventListener("error", () => ended("The files could not be sent: the web service does not answer, or does not take so much.", true));
  byId("send").disabled = true;
  byId("upload").hidden = false;
  words("Sending ...");
  request.send(form);
}

function answered(request) {
  let answer = {};
  try {
    answer = JSON.parse(request.responseText);
  } catch {
    answer = { error: request.responseText || `the service answered ${request.status}` };
  }
  if (request.status === 200) {
    location.assign(`/calculations/${answer.job_id}`);
    return;
  }
  ended(`It was not started: ${answer.error ?? answer.traceback?.at(-1)}`, true);
  const more = answer.traceback?.length > 1 ? answer.traceback.join("\n") : "";
  byId("run-more").hidden = !more;
  byId("run-traceback").textContent = more;
}

function ended(text, isBad) {
  words(text, isBad);
  byId("send").disabled = false;
  byId("upload").hidden = true;
}

const zone = byId("drop");
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    byId("run").open = true;
    zone.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) addEventListener(kind, (event) => {
  if (kind === "drop" || event.relatedTarget === null) zone.classList.remove("over");
});
addEventListener("drop", async (event) => {
  event.preventDefault();
  take(await ofDrop(event.dataTransfer));
});
byId("pick-files").addEventListener("change", () => take(ofInput(byId("pick-files"))));
byId("pick-folder").addEventListener("change", () => take(ofInput(byId("pick-folder"))));
byId("run-form").addEventListener("submit", send);
if (asked.get("continue")) {
  byId("run").open = true;
  byId("continue-from").value = asked.get("continue");
}
