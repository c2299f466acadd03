document.querySelectorAll(".sortable").forEach(makeSortable);
drawFigures(document);
