for (const box of document.querySelectorAll("input.filter")) {
  const rows = box.parentElement.querySelectorAll("details");
  box.addEventListener("input", () => {
    const wanted = box.value.trim().toLowerCase();
    for (const row of rows) row.hidden = wanted !== "" && !row.dataset.words.includes(wanted);
  });
}
