// Texts whose contrast is under 4.5, as WCAG 2 counts it, on the colours behind them.
() => {
    const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const behind = (node) => (node ? [...behind(node.parentElement), getComputedStyle(node).backgroundColor] : []);
    const mixed = (colours) => {
        paint.clearRect(0, 0, 1, 1);
        for (const colour of ["#fff", ...colours]) { paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1); }
        return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (colour) => colour.map((one) => one / 255)
        .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
        .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
    const faint = new Set();
    for (const node of document.querySelectorAll("body *:not(option)")) {
        const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
        if (!(own || node.value) || !node.checkVisibility() || node.closest("svg")) continue;
        const colours = behind(node);
        const [low, high] = [light(mixed(colours)), light(mixed([...colours, getComputedStyle(node).color]))]
            .sort((one, other) => one - other);
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < 4.5) faint.add(`${node.tagName} ${node.className} ${node.id} ${ratio.toFixed(2)}`);
    }
    return [...faint];
}
