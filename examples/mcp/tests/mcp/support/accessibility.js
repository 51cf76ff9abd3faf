// Returns the violations on this page: structure, names of controls, and contrast (WCAG 2.2 AA).
const found = [];
const check = (holds, what, element) => {
    if (!holds) found.push(`${what}: ${element ? element.outerHTML.slice(0, 200) : ""}`);
};
const all = (selector) => [...document.querySelectorAll(selector)];
const isVisible = (element) => element.checkVisibility({ checkVisibilityCSS: true });

check(document.documentElement.lang, "no language");
check(document.title, "no title");
for (const selector of ["main", "h1"]) {
    check(all(selector).length === 1, `not exactly one ${selector}`);
}
let level = 0;
for (const heading of all("h1, h2, h3, h4, h5, h6")) {
    check(Number(heading.tagName[1]) <= level + 1, "a skipped level of headings", heading);
    level = Number(heading.tagName[1]);
}
const ids = all("[id]").map((element) => element.id);
check(new Set(ids).size === ids.length, "a repeated id");
for (const image of all("img")) check(image.hasAttribute("alt"), "an image without alt", image);
for (const field of all("input:not([type=hidden]), select, textarea")) {
    check(field.labels?.length || field.ariaLabel, "a field without a label", field);
}
for (const control of all("button, a[href], summary").filter(isVisible)) {
    const images = [...control.querySelectorAll("img")].map((image) => image.alt).join("");
    check(control.ariaLabel || control.textContent.trim() || images, "a control without a name", control);
    if (!control.closest("p:not(:has(> .button:only-child))")) {
        const { width, height } = control.getBoundingClientRect();
        check(width >= 24 && height >= 24, "a target smaller than 24 pixels", control);
    }
}

const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
};
const luminance = (color) => {
    const [r, g, b] = [...rgba(color)].map((value) => {
        const part = value / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
        const color = getComputedStyle(at).backgroundColor;
        if (rgba(color)[3] === 255) return color;
    }
    return "white";
};
for (const element of all("body *").filter(isVisible)) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!hasText || element.closest("script")) continue;
    const both = [getComputedStyle(element).color, ground(element)].map(luminance);
    const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    check(contrast >= 4.5, `a contrast of ${contrast.toFixed(2)}`, element);
}
return found;
