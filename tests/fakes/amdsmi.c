/* A libamd_smi.so whose GPUs draw a steady power. The real amdsmi package loads it.
 *
 * amd_rig_set(gpu, watts, counter_share, told_w) sets a GPU: its counter counts counter_share of the true energy
 * (0: it has none); told_w is the power it tells (0: none). amd_rig_time(ns) is the rig's clock.
 * Everything else the package asks the loader for is a stub that answers "not supported" (generated).
 */
#include <stdint.h>
#include <string.h>

enum { OK = 0, INVALID = 1, UNSUPPORTED = 2, GPUS = 4 };
typedef struct { double watts, share, told_w; uint32_t pid; } Gpu;
static Gpu gpus[GPUS];
static uint32_t gpu_count;
static int64_t now_ns;
static int gone;

void amd_rig_set(uint32_t gpu, double watts, double share, double told_w) {
    gpus[gpu] = (Gpu){watts, share, told_w, 0};
    if (gpu >= gpu_count) gpu_count = gpu + 1;
}
void amd_rig_clear(void) { gpu_count = 0, gone = 0; }
void amd_rig_process(uint32_t gpu, uint32_t pid) { gpus[gpu].pid = pid; }
void amd_rig_time(int64_t ns) { now_ns = ns; }
void amd_rig_gone(int is) { gone = is; }

int amdsmi_init(uint64_t flags) { (void)flags; return OK; }
int amdsmi_shut_down(void) { return OK; }
/* One socket for each GPU; handles are index + 1. */
int amdsmi_get_socket_handles(uint32_t *count, void **sockets) {
    for (uint32_t i = 0; sockets && i < gpu_count && i < *count; i++) sockets[i] = (void *)(intptr_t)(i + 1);
    *count = gpu_count;
    return OK;
}
int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **processors) {
    if (processors && *count) processors[0] = socket;
    *count = 1;
    return OK;
}
static Gpu *of(void *handle) { return &gpus[(intptr_t)handle - 1]; }
int amdsmi_get_gpu_device_uuid(void *handle, unsigned *length, char *uuid) {
    strcpy(uuid, "a0ff73df-0000-1000-8000-000000000000");
    uuid[7] = (char)('0' + (intptr_t)handle);
    *length = (unsigned)strlen(uuid) + 1;
    return OK;
}
typedef struct {
    char market_name[256];
    uint32_t vendor_id;
    char vendor_name[256];
    uint32_t subvendor_id;
    uint64_t device_id;
    uint32_t rev_id;
    char asic_serial[256];
    uint32_t oam_id, compute_units, padding;
    uint64_t graphics_version;
    uint32_t subsystem_id, reserved[21];
} __attribute__((packed)) Asic;
int amdsmi_get_gpu_asic_info(void *handle, Asic *info) {
    (void)handle;
    memset(info, 0, sizeof *info);
    strcpy(info->market_name, "AMD Instinct Rig");
    strcpy(info->asic_serial, "0x1");
    return OK;
}
int amdsmi_get_energy_count(void *handle, uint64_t *count, float *unit_uj, uint64_t *at) {
    Gpu *gpu = of(handle);
    if (gone) return UNSUPPORTED;
    *unit_uj = 15.259f;
    *at = (uint64_t)now_ns;
    *count = (uint64_t)(gpu->share * gpu->watts * (double)now_ns / 1e9 * 1e6 / (double)*unit_uj);
    return OK;
}
typedef struct {
    uint64_t socket_power;
    uint32_t current, average;
    uint64_t gfx, soc, mem;
    uint32_t limit, padding;
    uint64_t reserved[18];
} __attribute__((packed)) Power;
int amdsmi_get_power_info(void *handle, Power *power) {
    Gpu *gpu = of(handle);
    if (gone) return UNSUPPORTED;
    memset(power, 0, sizeof *power);
    power->socket_power = power->average = 0xFFFF;
    power->current = gpu->told_w > 0 ? (uint32_t)gpu->told_w : 0xFFFF;
    return OK;
}
