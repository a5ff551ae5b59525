// A button on each block of code or commands that copies it. Without scripts, or without the right to write to the
// clipboard, there is no button, and the page is as it was.
document.addEventListener("DOMContentLoaded", () => {
  if (!navigator.clipboard) return;
  for (const block of document.querySelectorAll(".highlight-sh pre, .highlight-python pre, .highlight-yaml pre")) {
    const text = block.textContent;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    block.before(button);
  }
});
