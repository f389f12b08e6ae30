// Runs before the first paint, so that a page never flashes in the other theme.
const chosenTheme = localStorage.getItem("theme");
const chosenView = localStorage.getItem("view");
if (chosenView) document.documentElement.dataset.view = chosenView;
if (chosenTheme) document.documentElement.dataset.theme = chosenTheme;
