/** The map that holds an image, inside the one that programs find it by. */
import { type BpfMap, createMap, MAP_FLAG, MAP_TYPE, type Mapping } from '../kernel/libbpf.js';
import { IMAGE_SIZE, IMAGE_SLACK } from '../layout/image.js';

/** Makes a map with this image, of at most IMAGE_SIZE bytes. @throws KernelError */
export function imageMap(image: Uint8Array): { readonly map: BpfMap; readonly mapping: Mapping } {
  const map = createMap(
    { name: 'image', type: MAP_TYPE.ARRAY, keySize: 4, valueSize: IMAGE_SIZE + IMAGE_SLACK, maxEntries: 1 },
    MAP_FLAG.MMAPABLE,
  );
  const mapping = map.mmap();
  mapping.bytes.set(image);
  return { map, mapping };
}
