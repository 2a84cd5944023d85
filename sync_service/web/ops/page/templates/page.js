// The page works without this script. A second click must not start a replay again.
addEventListener("submit", (event) => {
  event.submitter?.setAttribute("disabled", "");
});
for (const time of document.querySelectorAll("time")) {
  time.title = new Date(time.dateTime).toLocaleString();
}
