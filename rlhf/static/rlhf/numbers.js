// Numbers as charts say them.

// What a computer makes of a difference of equals is 0.
export const short = (value) => {
  if (Math.abs(value) < 1e-12) return "0";
  return Number.isInteger(value) ? `${value}` : `${Number(value.toPrecision(3))}`;
};

export const tickLabel = (tick) => (tick === null ? "" : `${Number(tick.toPrecision(6))}`);
