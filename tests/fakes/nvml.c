/* A libnvidia-ml.so.1 whose GPUs draw a power known in closed form.
 *
 * The real pynvml loads it. Its scenario is the text file named by FAKE_NVML (or given to
 * fake_nvml_load), one GPU or fault a line, numbers in SI units, times in seconds since `start`:
 *
 *   start NANOSECONDS_OF_CLOCK_MONOTONIC (-1: when the scenario is loaded)
 *   gpu UUID IDLE_W PEAK_W PERIOD_S DUTY TICK_S AVERAGE_S LIMIT_W COUNTER(1|0) SLICES MODULE_W
 *   proc GPU_INDEX PID SM_PERCENT [FROM_S TO_S]
 *   fault GPU_INDEX KIND FROM_S TO_S VALUE
 *
 * Power is PEAK_W for the first DUTY of each PERIOD_S and IDLE_W for the rest. The energy counter
 * shows the energy at the last multiple of TICK_S; power readings are the mean of the last AVERAGE_S
 * (0: of this moment). SLICES > 0 makes one MIG device with that many of 7 slices.
 * MODULE_W > 0 is a GPU on one board with a processor and memory that draw so much, as on a GH200: all
 * figures are the module's, and fields of power are told for the scope MODULE only.
 * Processes are on the GPU from FROM_S to TO_S; their utilisation is told as by a driver 580 on an H200: the mean
 * since the time given, over the last 6 s at most, and only of those that have used the GPU since.
 * Faults: reset, stuck, lost, denied, slow (each call takes VALUE seconds), dear (the energy counter takes VALUE
 * seconds of processor time, as it does on an H200: 0.004), jump (VALUE joules more), nopower. `fault -1 driver` makes nvmlInit fail, `fault -1 hang` makes
 * it hang for VALUE seconds (0: for an hour), `fault -1 count` refuses to tell how many GPUs there are. fake_nvml_time(ns) sets a clock of its own.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { UNKNOWN = 999, OK = 0, UNINITIALIZED = 1, INVALID = 2, UNSUPPORTED = 3, DENIED = 4, NOT_FOUND = 6,
       TOO_SMALL = 7, NO_DRIVER = 9, LOST = 15 };
enum { GPUS = 16, FAULTS = 64, PROCS = 64 };

typedef struct {
    char uuid[96], mig_uuid[96];
    double idle_w, peak_w, period_s, duty, tick_s, average_s, limit_w, module_w;
    int counter, slices;
} Gpu;
typedef struct { int gpu; char kind[16]; double from_s, to_s, value; } Fault;
typedef struct { int gpu; unsigned pid, sm; double from_s, to_s; } Proc;

static Gpu gpus[GPUS];
static Fault faults[FAULTS];
static Proc procs[PROCS];
static int gpu_count, fault_count, proc_count, started;
static int64_t start_ns, own_clock_ns = -1;
static unsigned long calls;

static int64_t now_ns(void) {
    struct timespec now;
    if (own_clock_ns >= 0) return own_clock_ns;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
static double now_s(void) { return (double)(now_ns() - start_ns) / 1e9; }

int fake_nvml_load(const char *path) {
    char line[512];
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    gpu_count = fault_count = proc_count = 0;
    start_ns = 0;
    while (fgets(line, sizeof line, file)) {
        Gpu gpu = {0};
        Fault fault = {0};
        Proc proc = {.from_s = -1e18, .to_s = 1e18};
        long long at;
        if (sscanf(line, "start %lld", &at) == 1) start_ns = at < 0 ? now_ns() : at;
        else if (sscanf(line, "gpu %95s %lf %lf %lf %lf %lf %lf %lf %d %d %lf", gpu.uuid, &gpu.idle_w,
                        &gpu.peak_w, &gpu.period_s, &gpu.duty, &gpu.tick_s, &gpu.average_s,
                        &gpu.limit_w, &gpu.counter, &gpu.slices,
                        &gpu.module_w) == 11 && gpu_count < GPUS) {
            if (gpu.slices) snprintf(gpu.mig_uuid, sizeof gpu.mig_uuid, "MIG-%.80s", gpu.uuid + 4);
            gpus[gpu_count++] = gpu;
        } else if (sscanf(line, "proc %d %u %u %lf %lf", &proc.gpu, &proc.pid, &proc.sm, &proc.from_s,
                          &proc.to_s) >= 3 &&
                   proc_count < PROCS)
            procs[proc_count++] = proc;
        else if (sscanf(line, "fault %d %15s %lf %lf %lf", &fault.gpu, fault.kind, &fault.from_s,
                        &fault.to_s, &fault.value) >= 2 && fault_count < FAULTS)
            faults[fault_count++] = fault;
    }
    fclose(file);
    return gpu_count;
}
void fake_nvml_time(int64_t ns) { own_clock_ns = ns; }
unsigned long fake_nvml_calls(void) { return calls; }

static double energy_j(const Gpu *gpu, double t) {
    double whole = floor(t / gpu->period_s), rest = t - whole * gpu->period_s;
    double high_s = whole * gpu->period_s * gpu->duty + fmin(rest, gpu->period_s * gpu->duty);
    return (gpu->idle_w + gpu->module_w) * t + (gpu->peak_w - gpu->idle_w) * high_s;
}
static double power_w(const Gpu *gpu, double t) {
    if (gpu->average_s > 0)
        return (energy_j(gpu, t) - energy_j(gpu, t - gpu->average_s)) / gpu->average_s;
    return gpu->module_w +
           (fmod(t, gpu->period_s) < gpu->period_s * gpu->duty ? gpu->peak_w : gpu->idle_w);
}
static const Fault *fault_of(int gpu, const char *kind, double t) {
    for (int i = 0; i < fault_count; i++)
        if (faults[i].gpu == gpu && !strcmp(faults[i].kind, kind) && t >= faults[i].from_s &&
            t < faults[i].to_s)
            return &faults[i];
    return NULL;
}
/* What the counter shows at t, faults included; the truth goes on. */
static double shown_j(int index, double t) {
    const Gpu *gpu = &gpus[index];
    const Fault *stuck = fault_of(index, "stuck", t);
    double at = stuck ? stuck->from_s : t, base_j = 0, extra_j = 0;
    at = gpu->tick_s > 0 ? floor(at / gpu->tick_s) * gpu->tick_s : at;
    for (int i = 0; i < fault_count; i++) {
        if (faults[i].gpu != index || at < faults[i].from_s) continue;
        if (!strcmp(faults[i].kind, "reset")) base_j = energy_j(gpu, faults[i].from_s), extra_j = 0;
        if (!strcmp(faults[i].kind, "jump")) extra_j += faults[i].value;
    }
    return 5000 * (base_j == 0) + energy_j(gpu, at) - base_j + extra_j;
}

/* Handles: GPU i is i + 1, its MIG device i + 1 + GPUS. */
static int index_of(void *handle) { return (int)((intptr_t)handle - 1) % GPUS; }
static int is_mig(void *handle) { return (intptr_t)handle > GPUS; }
static int enter(void *handle) {
    const Fault *slow;
    int index = index_of(handle);
    calls++;
    if (!started) return UNINITIALIZED;
    if (index < 0 || index >= gpu_count) return INVALID;
    if ((slow = fault_of(index, "slow", now_s())) && own_clock_ns < 0)
        usleep((useconds_t)(slow->value * 1e6));
    if (fault_of(index, "lost", now_s())) return LOST;
    return fault_of(index, "denied", now_s()) ? DENIED : OK;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!gpu_count && getenv("FAKE_NVML")) fake_nvml_load(getenv("FAKE_NVML"));
    for (int i = 0; i < fault_count; i++) {
        if (faults[i].gpu == -1 && !strcmp(faults[i].kind, "driver")) return NO_DRIVER;
        if (faults[i].gpu == -1 && !strcmp(faults[i].kind, "hang"))
            usleep((useconds_t)((faults[i].value ? faults[i].value : 3600) * 1e6));
    }
    started++;
    return OK;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlInit(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) {
    if (!started) return UNINITIALIZED;
    started--;
    return OK;
}
const char *nvmlErrorString(int code) {
    switch (code) {
    case OK: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID: return "Invalid Argument";
    case UNSUPPORTED: return "Not Supported";
    case DENIED: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case TOO_SMALL: return "Insufficient Size";
    case NO_DRIVER: return "Driver Not Loaded";
    case LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}
static int text(char *to, unsigned size, const char *from) {
    if (strlen(from) + 1 > size) return TOO_SMALL;
    strcpy(to, from);
    return OK;
}
int nvmlSystemGetDriverVersion(char *version, unsigned size) { return text(version, size, "580.00"); }
int nvmlSystemGetNVMLVersion(char *version, unsigned size) { return text(version, size, "12.580.00"); }
int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = (unsigned)gpu_count;
    for (int i = 0; i < fault_count; i++)
        if (faults[i].gpu == -1 && !strcmp(faults[i].kind, "count")) return UNKNOWN;
    return started ? OK : UNINITIALIZED;
}
int nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index >= (unsigned)gpu_count) return INVALID;
    *handle = (void *)(intptr_t)(index + 1);
    return started ? OK : UNINITIALIZED;
}
int nvmlDeviceGetHandleByIndex(unsigned i, void **h) { return nvmlDeviceGetHandleByIndex_v2(i, h); }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    for (int i = 0; i < gpu_count; i++) {
        int mig = gpus[i].slices && !strcmp(uuid, gpus[i].mig_uuid);
        if (mig || !strcmp(uuid, gpus[i].uuid)) {
            *handle = (void *)(intptr_t)(i + 1 + (mig ? GPUS : 0));
            return OK;
        }
    }
    return NOT_FOUND;
}
int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
    const Gpu *gpu = &gpus[index_of(handle)];
    return text(uuid, size, is_mig(handle) ? gpu->mig_uuid : gpu->uuid);
}
int nvmlDeviceGetName(void *handle, char *name, unsigned size) {
    return text(name, size, is_mig(handle) ? "NVIDIA Rig MIG" : "NVIDIA Rig");
}
int nvmlDeviceGetIndex(void *handle, unsigned *index) {
    *index = (unsigned)index_of(handle);
    return OK;
}
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoules) {
    const Fault *dear;
    int code = enter(handle);
    if (code) return code;
    if (!gpus[index_of(handle)].counter || is_mig(handle)) return UNSUPPORTED;
    *millijoules = (unsigned long long)(shown_j(index_of(handle), now_s()) * 1000);
    if (own_clock_ns < 0 && (dear = fault_of(index_of(handle), "dear", now_s())))
        for (double until_s = now_s() + dear->value; now_s() < until_s;);
    return OK;
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    int code = enter(handle);
    if (code) return code;
    if (fault_of(index_of(handle), "nopower", now_s()) || is_mig(handle)) return UNSUPPORTED;
    *milliwatts = (unsigned)(power_w(&gpus[index_of(handle)], now_s()) * 1000);
    return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts) {
    *milliwatts = (unsigned)(gpus[index_of(handle)].limit_w * 1000);
    return is_mig(handle) ? UNSUPPORTED : OK;
}
int nvmlDeviceGetPowerManagementLimit(void *h, unsigned *mw) { return nvmlDeviceGetEnforcedPowerLimit(h, mw); }
int nvmlDeviceGetPowerManagementDefaultLimit(void *h, unsigned *mw) {
    return nvmlDeviceGetEnforcedPowerLimit(h, mw);
}
int nvmlDeviceGetPowerManagementLimitConstraints(void *h, unsigned *least, unsigned *most) {
    *least = 100000;
    return nvmlDeviceGetEnforcedPowerLimit(h, most);
}
int nvmlDeviceGetArchitecture(void *handle, unsigned *architecture) {
    *architecture = gpus[index_of(handle)].counter ? 9 : 4; /* Hopper, or Pascal without a counter */
    return OK;
}
int nvmlDeviceGetPersistenceMode(void *handle, unsigned *mode) { (void)handle, *mode = 1; return OK; }
int nvmlDeviceGetComputeMode(void *handle, unsigned *mode) { (void)handle, *mode = 0; return OK; }
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) {
    (void)sensor, *celsius = 50;
    return enter(handle);
}
typedef struct { unsigned gpu, memory; } Utilization;
int nvmlDeviceGetUtilizationRates(void *handle, Utilization *use) {
    int code = enter(handle);
    if (code) return code;
    use->gpu = power_w(&gpus[index_of(handle)], now_s()) > gpus[index_of(handle)].idle_w ? 100 : 0;
    use->memory = 0;
    return OK;
}
typedef struct { unsigned long long total, available, used; } Memory;
int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    memory->total = 80ull << 30, memory->used = 1ull << 30;
    memory->available = memory->total - memory->used;
    return enter(handle);
}
typedef struct { unsigned version; unsigned long long total, reserved, available, used; } Memory2;
int nvmlDeviceGetMemoryInfo_v2(void *handle, Memory2 *memory) {
    memory->total = 80ull << 30, memory->used = 1ull << 30, memory->reserved = 0;
    memory->available = memory->total - memory->used;
    return enter(handle);
}
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } Running;
static int running(void *handle, unsigned *count, Running *found) {
    unsigned size = *count, n = 0;
    int code = enter(handle);
    if (code) return code;
    for (int i = 0; i < proc_count; i++)
        if (procs[i].gpu == index_of(handle) && now_s() >= procs[i].from_s && now_s() < procs[i].to_s) {
            if (found && n < size) found[n] = (Running){procs[i].pid, 1 << 30, ~0u, ~0u};
            n++;
        }
    *count = n;
    return n > size || (n && !found) ? TOO_SMALL : OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *n, Running *r) { return running(h, n, r); }
int nvmlDeviceGetComputeRunningProcesses_v2(void *h, unsigned *n, Running *r) { return running(h, n, r); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *h, unsigned *n, Running *r) {
    (void)r, *n = 0;
    return enter(h);
}
typedef struct { unsigned pid; unsigned long long time_us; unsigned sm, memory, encoder, decoder; } Sample;
int nvmlDeviceGetProcessUtilization(void *handle, Sample *samples, unsigned *count, unsigned long long since_us) {
    unsigned size = *count, n = 0;
    double to_s = now_s(), from_s = fmax((double)((int64_t)since_us * 1000 - start_ns) / 1e9, to_s - 6);
    int code = enter(handle);
    if (code) return code;
    if (gpus[index_of(handle)].slices) return UNSUPPORTED;
    for (int i = 0; i < proc_count; i++) {
        double used_s = fmin(to_s, procs[i].to_s) - fmax(from_s, procs[i].from_s);
        if (procs[i].gpu != index_of(handle) || used_s <= 0) continue;
        if (samples && n < size)
            samples[n] = (Sample){procs[i].pid, (unsigned long long)(now_ns() / 1000),
                                  (unsigned)(procs[i].sm * used_s / (to_s - from_s) + 0.5), 0, 0, 0};
        n++;
    }
    *count = n;
    if (!n) return NOT_FOUND;
    return n > size || !samples ? TOO_SMALL : OK;
}
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    *current = *pending = gpus[index_of(handle)].slices > 0;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    *count = gpus[index_of(handle)].slices ? 7 : 0;
    return OK;
}
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **mig) {
    if (!gpus[index_of(handle)].slices || index) return NOT_FOUND;
    *mig = (void *)(intptr_t)(index_of(handle) + 1 + GPUS);
    return OK;
}
int nvmlDeviceIsMigDeviceHandle(void *handle, unsigned *yes) { *yes = is_mig(handle); return OK; }
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *mig, void **handle) {
    if (!is_mig(mig)) return INVALID;
    *handle = (void *)(intptr_t)(index_of(mig) + 1);
    return OK;
}
typedef struct {
    unsigned multiprocessors, copy, decoder, encoder, jpeg, ofa, gpu_slices, compute_slices;
    unsigned long long memory_mb;
} Attributes;
int nvmlDeviceGetAttributes_v2(void *handle, Attributes *all) {
    memset(all, 0, sizeof *all);
    if (!is_mig(handle)) return UNSUPPORTED;
    all->gpu_slices = all->compute_slices = (unsigned)gpus[index_of(handle)].slices;
    all->memory_mb = (80 << 10) * all->gpu_slices / 8;
    return OK;
}
typedef struct {
    unsigned field, scope;
    long long time_us, latency_us;
    int type, code;
    union { double real; unsigned number; unsigned long long wide; } value;
} Field;
int nvmlDeviceGetFieldValues(void *handle, int count, Field *fields) {
    int code = enter(handle);
    if (code) return code;
    for (int i = 0; i < count; i++) {
        Gpu gpu = gpus[index_of(handle)];
        fields[i].code = fault_of(index_of(handle), "nopower", now_s()) ? UNSUPPORTED : OK;
        fields[i].type = 1;
        gpu.average_s = fields[i].field == 185 ? 1.0 : 0.025;
        if (fields[i].scope != (gpu.module_w > 0)) fields[i].code = UNSUPPORTED;
        else if (fields[i].field == 185 || fields[i].field == 186)
            fields[i].value.number = (unsigned)(power_w(&gpu, now_s()) * 1000);
        else fields[i].code = UNSUPPORTED;
    }
    return OK;
}
