-- What wrk tells the harness at its end: one line.
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format("units %d errors %d us %d p50 %d p99 %d p999 %d\n", summary.requests,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout, summary.duration,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
