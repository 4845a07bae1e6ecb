/** What this JavaScript engine has of what the engine can use. */
import { cores, runtimeName, whyNotShared } from '../platform/platform.js';
import { hasRelaxedSimd, hasSimd } from './instance.js';

export interface Environment {
  /** Version of this package. */
  lutra: string;
  /** 'Node 24.1.0'; in a browser its user agent. */
  runtime: string;
  /** Processors, as the runtime counts them. */
  cores: number;
  /** Needed. */
  simd: boolean;
  relaxedSimd: boolean;
  /** Threads over one memory. */
  sharedMemory: boolean;
  /** Why not, else null. */
  sharedMemoryObstacle: string | null;
}

export function environment(): Environment {
  const obstacle = whyNotShared() ?? null, simd = hasSimd();
  return {
    lutra: __LUTRA_VERSION__, runtime: runtimeName(), cores: cores(),
    simd, relaxedSimd: simd && hasRelaxedSimd(), sharedMemory: obstacle === null, sharedMemoryObstacle: obstacle,
  };
}
