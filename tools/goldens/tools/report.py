import json,glob
KEY={ 'transformer':['num_layers','num_single_layers','num_attention_heads','attention_head_dim','in_channels','guidance_embeds','axes_dims_rope','dual_attention_layers','qk_norm','image_dim','use_rotary_positional_embeddings','use_learned_positional_embeddings','patch_size_t','ofs_embed_dim','rope_type','gated_attn','cross_attn_mod','perturbed_attn','use_prompt_embeddings'],
 'unet':['block_out_channels','attention_head_dim','num_attention_heads','transformer_layers_per_block','cross_attention_dim','use_linear_projection','addition_embed_type'],
 'vae':['block_out_channels','decoder_block_out_channels','base_dim','decoder_base_dim','dim_mult','z_dim','latent_channels','is_residual','patch_size','timestep_conditioning','scaling_factor','shift_factor'],
 'scheduler':['prediction_type','shift','flow_shift','use_dynamic_shifting','shift_terminal','invert_sigmas','timestep_spacing','rescale_betas_zero_snr','snr_shift_scale','use_karras_sigmas','timestep_type']}
print('| case | pipeline | weights | tok/cfg | golden | floor denoiser / latents / decoded (max abs, fp32 vs fp64) |'); print('|---|---|---|---|---|---|')
det=[]
for f in sorted(glob.glob('out/*/case.json')):
    d=json.load(open(f)); 
    if 'bytes' not in d: continue
    b=d['bytes']; fl=d['fp32_vs_fp64_max_abs'] or {}
    fs=' / '.join(f"{fl.get(k,float('nan')):.0e}" for k in ('denoiser_call0','final_latents','decoded')) if 'error' not in fl else fl['error'][:60]
    print(f"| {d['case']} | {d['pipeline']} | {b['weights']//1000} kB | {b['model_other']//1000} kB | {b['golden']//1000} kB | {fs} |")
    cl={k:v for k,v in d['classes'].items()}
    line=f"- **{d['case']}** ({d['family']}): "+', '.join(f"{k}={v}" for k,v in sorted(cl.items()))
    for comp,keys in KEY.items():
        try: c=json.load(open(f"out/{d['case']}/model/{comp}/"+('scheduler_config.json' if comp=='scheduler' else 'config.json')))
        except FileNotFoundError: continue
        line+=f"; {comp}: "+' '.join(f"{k}={c[k]}".replace(' ','') for k in keys if c.get(k) not in (None,False,[],'epsilon') )
    mi=json.load(open(f"out/{d['case']}/model/model_index.json"))
    ex={k:v for k,v in mi.items() if k in('boundary_ratio','expand_timesteps','force_zeros_for_empty_prompt') and v not in (None,False)}
    if ex: line+=f"; index: {ex}"
    ins={k:v for k,v in d['inputs'].items() if k not in('prompt','negative_prompt','latents','image','audio_latents')}
    line+=f"; call: {ins}"
    det.append(line)
print(); print('### Class names and key config fields'); print('\n'.join(det))
